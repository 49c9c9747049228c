"""QUARANTINE: this bundle is not tried again on this device."""

from __future__ import annotations

from ...protocol.documents import State
from ..machine import Event
from ..memory import MAX_QUARANTINED
from ..work import Result, Step, Work


class Quarantine(Step):
    """Notes the digest; the desired document is settled by that."""

    state = State.QUARANTINE

    def run(self, work: Work) -> Result | None:
        """Add the bundle to the list, dropping the oldest where it is full."""
        memory, bundle = work.memory, work.variant.bundle
        others = [digest for digest in memory.quarantine if digest != bundle]
        changes: dict[str, object] = {
            "quarantine": [*others, bundle][-MAX_QUARANTINED:],
            "settled": not memory.overtaken,
            "update": None,
        }
        return Result(Event.DONE, changes)
