"""ACTIVATE: one rename, and the server on the new bundle."""

from __future__ import annotations

from ...protocol.documents import Problem, State
from ..machine import Event
from ..work import Result, Step, Work


class Activate(Step):
    """Switches the link, starts the server, waits until it is ready."""

    state = State.ACTIVATE

    def __init__(self) -> None:
        self._since: float | None = None

    def enter(self) -> None:
        """Begin anew."""
        self._since = None

    def run(self, work: Work) -> Result | None:
        """Give DONE once the server listens, UNFIT where it dies or does not get ready in time."""
        bundle, now = work.variant.bundle, work.clock.monotonic()
        if self._since is None:
            work.store.open(bundle)
            work.store.activate(bundle)
            work.server.start(work.store.bundle_path(bundle), bundle)
            self._since = now
        if not work.server.alive:
            return Result(Event.UNFIT, {"problem": _problem("died", work.server.words())})
        if work.server.port is not None:
            return Result(Event.DONE)
        limit = work.update.policy.gate_timeout_seconds
        if now - self._since > limit:
            return Result(Event.UNFIT, {"problem": _problem(f"took over {limit:g} s", "")})
        return None


def _problem(how: str, words: str) -> Problem:
    what = f"The server {how} while it loaded the bundle"
    return Problem(error="ActivateError", what=what, why=words[-1500:])
