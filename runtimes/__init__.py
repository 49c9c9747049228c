"""Ground floor: bundles, engine sessions, tasks, endpoint statistics, the local server.

`from edgeward.runtimes import load` is the whole door for an embedded app.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .session import Session, load

__all__ = ["Session", "load"]


def __getattr__(name: str) -> Any:
    """Import the session module on first use: the room itself costs nothing to import."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import session

    return getattr(session, name)
