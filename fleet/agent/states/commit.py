"""COMMIT: the new bundle becomes the last known good."""

from __future__ import annotations

from ...protocol.documents import Outcome, State
from ..machine import Event
from ..memory import Good
from ..work import Result, Step, Work


class Commit(Step):
    """Everything that a commit changes stands in one journal record: the one that ends it."""

    state = State.COMMIT

    def run(self, work: Work) -> Result | None:
        """Set the last known good, the floor and the outcome."""
        memory, update, variant = work.memory, work.update, work.variant
        good = Good(
            bundle=variant.bundle,
            release=update.release,
            sequence=update.sequence,
            target=variant.target,
        )
        is_new = memory.good is not None and memory.good.bundle != good.bundle
        # A permitted downgrade lowers the floor: that is what the permit was signed for.
        floors = {**memory.floors, update.release.model: update.sequence}
        outdated = memory.superseded
        changes: dict[str, object] = {
            "good": good,
            "previous": memory.good if is_new else memory.previous,
            "floors": floors,
            "settled": not memory.overtaken,
            "outcome": None if outdated else Outcome.COMMITTED,
            "problem": None,
            "failures": 0,
            "update": None,
        }
        return Result(Event.DONE, changes)
