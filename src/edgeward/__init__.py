"""edgeward: compile Hugging Face models for edge devices, prove, ship and watch them."""

from edgeward._version import __version__
from edgeward.errors import EdgewardError

__all__ = ["EdgewardError", "__version__"]
