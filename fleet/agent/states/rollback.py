"""ROLLBACK: back to the last known good, by one rename and without a network."""

from __future__ import annotations

from ...protocol.documents import Outcome, State
from ..machine import Event
from ..memory import Good, Memory
from ..store import Store
from ..work import Result, Step, Work


class Rollback(Step):
    """Ends the new bundle's server and points the link at a good bundle that is whole."""

    state = State.ROLLBACK

    def run(self, work: Work) -> Result | None:
        """Give DONE where the bundle is at fault, ABANDONED where it was merely broken off."""
        memory = work.memory
        work.server.stop()
        good = whole_good(work.store, memory)
        if good is not None:
            work.store.activate(good.bundle)
        elif memory.good is None:
            work.store.deactivate()
        if work.update.condemned:
            return Result(Event.DONE, {"outcome": Outcome.ROLLED_BACK})
        return Result(Event.ABANDONED, {"update": None})


def whole_good(store: Store, memory: Memory) -> Good | None:
    """Return the last known good or else the one before it, whichever is whole on disk."""
    for good in (memory.good, memory.previous):
        if good is not None and store.holds(good.bundle):
            return good
    return None
