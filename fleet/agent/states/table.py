"""Every state's class."""

from __future__ import annotations

from ...protocol.documents import State
from ..work import Step
from .activate import Activate
from .commit import Commit
from .download import Download
from .finalize import Finalize
from .gate import Gate
from .idle import Idle
from .preflight import Preflight
from .quarantine import Quarantine
from .resolve import Resolve
from .rollback import Rollback
from .soak import Soak
from .stage import Stage
from .verify import Verify

STEPS: tuple[type[Step], ...] = (
    Idle,
    Resolve,
    Preflight,
    Download,
    Verify,
    Stage,
    Finalize,
    Gate,
    Activate,
    Soak,
    Commit,
    Rollback,
    Quarantine,
)


def steps() -> dict[State, Step]:
    """Return a fresh object for every state."""
    return {step.state: step() for step in STEPS}
