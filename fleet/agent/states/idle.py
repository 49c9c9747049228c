"""IDLE: nothing to do, or nothing that may be done now."""

from __future__ import annotations

from ...protocol.documents import State
from ..machine import Event
from ..memory import Update
from ..rules import check_window
from ..work import Result, Step, Work


class Idle(Step):
    """Starts an update where one is desired and allowed at this time."""

    state = State.IDLE

    def run(self, work: Work) -> Result | None:
        """Begin where the desired document is unsettled; NotYetError outside its window."""
        desired = work.memory.desired
        if work.memory.settled or desired is None or desired.release is None:
            return None
        check_window(desired, work.now)
        update = Update(
            release=desired.release,
            generation=desired.generation,
            rollout=desired.rollout,
            policy=desired.policy,
        )
        return Result(
            Event.WANTED, {"update": update, "outcome": None, "problem": None, "gate": None}
        )
