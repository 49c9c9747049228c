"""FINALIZE: what only this device can build of the bundle, its engine, before the gate runs it."""

from __future__ import annotations

from edgeward.errors import DoesNotFitError, TransferError
from edgeward.runtimes.child import Ended, run_limited

from ...protocol.documents import Problem, State
from ..machine import Event
from ..work import Result, Step, Work

WORDS = 1500


class Finalize(Step):
    """Builds in a limited child; an engine that is there already costs a look."""

    state = State.FINALIZE

    def run(self, work: Work) -> Result | None:
        """Give UNFIT where no engine comes of it; TransferError where the disk has no room now."""
        bundle = work.store.open(work.variant.bundle, "sizes")
        seconds = work.config.build_seconds
        ended = run_limited(
            [*work.commands.finalize, str(bundle.path)],
            seconds=seconds,
            memory_bytes=work.device.memory_bytes,
            clock=work.clock,
            between=work.between,
            environment=work.store.home.environment,
        )
        if ended.status == 0 and not ended.stopped:
            return Result(Event.DONE)
        if ended.status == DoesNotFitError.exit_code:
            raise TransferError(
                "The disk has not room for the bundle's engine", why=ended.errors[-WORDS:]
            )
        problem = Problem(
            error="FinalizeError", what="The device built no engine of the bundle", why=_why(ended)
        )
        return Result(Event.UNFIT, {"problem": problem})


def _why(ended: Ended) -> str:
    if ended.stopped:
        return f"the build was stopped: {ended.stopped}"
    if ended.status < 0:
        return f"the build died of signal {-ended.status}: {ended.errors[-WORDS:]}"
    return ended.errors[-WORDS:] or f"the build ended with status {ended.status}"
