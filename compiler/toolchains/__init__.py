"""Converters' environments, made from lock files on first use."""

from .manager import Toolchains
from .toolchain import Toolchain, ToolchainStatus

__all__ = ["Toolchain", "ToolchainStatus", "Toolchains"]
