"""SOAK: the new bundle serves, and is watched."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from ...protocol.documents import Problem, State
from ..machine import Event
from ..probe_texts import probe_texts
from ..soak import Watch
from ..work import Result, Step, Work

LEAST_PAUSE, MOST_PAUSE = 0.2, 10.0
PROBES_WANTED = 5


class Soak(Step):
    """Asks for health, sends golden inputs, counts errors; a restart begins the soak anew."""

    state = State.SOAK

    def __init__(self) -> None:
        self._watch: Watch | None = None
        self._texts: Iterator[str] = iter(())
        self._next = 0.0

    def enter(self) -> None:
        """Begin anew."""
        self._watch = None

    def run(self, work: Work) -> Result | None:
        """Look once in a while until the soak's time is over or something is wrong."""
        watch = self._watch or self._begin(work)
        now = work.clock.monotonic()
        if not work.server.alive:
            watch.saw_death(work.server.words()[-1000:])
        elif work.server.port is not None and now >= self._next:
            pause = watch.seconds / PROBES_WANTED
            self._next = now + min(max(pause, LEAST_PAUSE), MOST_PAUSE)
            watch.saw_health(work.server.health())
            watch.saw_probe(work.server.probe(next(self._texts)))
        elif work.server.port is None and now - watch.since > watch.seconds + _patience(work):
            watch.saw_death("it did not get ready again")
        if watch.passed(work.clock.monotonic()):
            return self._end(work, watch, Result(Event.DONE))
        if watch.fault:
            problem = Problem(
                error="SoakError", what="The bundle failed in service", why=watch.fault[:2000]
            )
            return self._end(work, watch, Result(Event.UNFIT, {"problem": problem}))
        return None

    def _begin(self, work: Work) -> Watch:
        bundle = work.store.open(work.variant.bundle, "sizes")
        work.store.activate(bundle.digest)
        if work.server.digest != bundle.digest:
            work.server.start(bundle.path, bundle.digest)
        policy = work.update.policy
        self._texts = itertools.cycle(probe_texts(bundle))
        self._next = 0.0
        self._watch = Watch(
            bundle.digest, work.clock.monotonic(), policy.soak_seconds, policy.max_error_rate
        )
        work.stats.watchers[:] = [self._watch.saw_delta]
        return self._watch

    def _end(self, work: Work, watch: Watch, result: Result) -> Result:
        work.stats.watchers.clear()
        self._watch = None
        return result


def _patience(work: Work) -> float:
    return work.update.policy.gate_timeout_seconds
