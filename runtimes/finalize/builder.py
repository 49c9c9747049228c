"""The seam behind which TensorRT builds: its Python package or trtexec, each a command."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgeward.errors import MissingError

from .ranges import InputShapes

LEAST_MAJOR = 10
_VERSION = re.compile(r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})")


@dataclass(frozen=True, slots=True)
class Order:
    """What to build, where to leave the plan, and the timing cache to read and write."""

    onnx: Path
    plan: Path
    timing_cache: Path
    shapes: tuple[InputShapes, ...]
    workspace_mib: int | None = None


class EngineBuilder(Protocol):
    """One way to build; what it does happens in the child process that runs its command."""

    @property
    def name(self) -> str:
        """What it is called in a record."""
        ...

    @property
    def version(self) -> str:
        """TensorRT's version, three numbers."""
        ...

    def command(self, order: Order) -> list[str]:
        """Return the argument list that builds the plan."""
        ...


def find_builder(builders: Sequence[EngineBuilder | str]) -> EngineBuilder:
    """Return the first builder that is there; the texts say why the others are not.

    Raises MissingError with all reasons where none is, or where TensorRT is too old.
    """
    reasons = [each for each in builders if isinstance(each, str)]
    for each in builders:
        if isinstance(each, str):
            continue
        if int(each.version.split(".")[0]) >= LEAST_MAJOR:
            return each
        reasons.append(f"{each.name} is TensorRT {each.version}, {LEAST_MAJOR} is the least")
    raise MissingError(
        "TensorRT is not here, so no engine can be built",
        why="; ".join(reasons),
        next="on a Jetson: sudo apt-get install tensorrt; elsewhere: pip install tensorrt-cu12",
    )


def available() -> list[EngineBuilder | str]:
    """Return the builders of this machine, the Python package first, or why one is not there.

    trtexec loads what it built into the same process, which a small device may not have room for.
    """
    from .python_api import find_python
    from .trtexec import find_trtexec

    return [find_python(), find_trtexec()]


def three_numbers(version: str) -> str | None:
    """Return `10.3.0` of `10.3.0.26` or `10.3.0.post1`; None where it is no version."""
    found = _VERSION.match(version)
    return f"{found[1]}.{found[2]}.{found[3]}" if found else None


def is_importable(module: str) -> bool:
    """Whether Python would find a module; it is not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
