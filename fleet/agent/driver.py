"""The agent: one thread that listens, works on the state it is in, and keeps the server up.

Every transition is in the journal before what it announces is done.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from edgeward.errors import EdgewardError, TransferError

from ..protocol.documents import Problem, State
from ..protocol.wire import encode
from .backoff import full_jitter
from .clock import Clock
from .config import AgentConfig, Trust
from .controller import Controller
from .device import Device
from .endings import ending, problem_of, rebooted
from .fetch import Fetcher
from .files import write_atomic
from .home import Home, HomeLock, unwritable
from .inbox import accept, read_desired
from .jobs.desk import Desk
from .journal import Journal
from .keeper import Keeper
from .link import Link
from .machine import CANCELLABLE, TRIAL, Event, after, event_for
from .memory import Memory
from .recall import note, recall
from .refusals import InterruptedWorkError
from .report import reported, status
from .rules import check_window
from .server import Commands, ModelServer
from .settle import adopt, repair, settle
from .states.table import steps
from .stats_pump import Spooled, StatsPump
from .store import Store
from .work import Result, Work

RETRY_BASE, RETRY_CAP = 2.0, 600.0
TROUBLE_PAUSE = 5.0
STATS_SECONDS, STATUS_SECONDS = 1.0, 10.0
CHECK_AT_DEATHS = 5


@dataclass(frozen=True, slots=True)
class Parts:
    """What an agent is made of; tests put simulators in."""

    config: AgentConfig
    trust: Trust
    fetcher: Fetcher
    device: Device
    server: ModelServer
    commands: Commands
    clock: Clock
    spool: Spooled
    link: Callable[[int], Link]


class Agent:
    """One device; `step` until you are done, then `close`."""

    def __init__(self, home: Home, parts: Parts) -> None:
        """Lock the home, read the journal, make `active` valid; FleetError where that fails."""
        home.prepare()
        self._lock = HomeLock(home)
        self.home, self.parts, self.clock = home, parts, parts.clock
        self.store = Store(home)
        self.stopping = False
        self._journal = Journal(home.journal)
        self._sequence = 0
        self._sent: object = None
        self._trouble: Problem | None = None
        self._refusal: Problem | None = None
        self._ailment: Problem | None = None
        self._retry_at = self._poll_at = self._stats_at = self._status_at = self._heal_at = 0.0
        self._job_at = 0.0
        self._checked_deaths = 0
        self._asked = False
        self._steps = steps()
        self.keeper = Keeper(parts.server, parts.clock)
        try:
            self.memory = self._boot()
            self.jobs = Desk(home, parts.config.device)
        except OSError as error:
            self._lock.release()
            raise unwritable(home.root, error) from None
        self.link = parts.link(self.memory.boot)
        stats = StatsPump(parts.spool, parts.config.device, self.memory.boot)
        self.work = Work(
            config=parts.config,
            trust=parts.trust,
            store=self.store,
            controller=Controller(parts.fetcher),
            device=parts.device,
            server=parts.server,
            stats=stats,
            commands=parts.commands,
            clock=parts.clock,
            memory=self.memory,
            between=self._between,
        )
        self.serving = settle(self.store, self.memory)
        self._collect()
        self._tell()

    def step(self, seconds: float = 0.0) -> None:
        """Listen for up to so many seconds, then do some of the present state's work."""
        self._tick(seconds)
        if not self.stopping:
            self._advance()
        if not self.stopping:
            self._do_job()

    def run_until(self, done: Callable[[Agent], bool], steps: int = 10_000) -> bool:
        """Step until `done` says so; False where that many steps did not get there."""
        for _ in range(steps):
            if done(self):
                return True
            self.step(self.pause())
        return done(self)

    def pause(self) -> float:
        """Return how long a step may listen before there is something else to do."""
        state = self.memory.state
        if state in TRIAL:
            return 0.1
        if state is not State.IDLE or (self._may_try() and not self.memory.settled):
            return 0.0 if self._may_try() else 0.2
        if self._job_due():
            return 0.0
        return min(1.0, max(self._poll_at - self.clock.monotonic(), 0.01))

    @property
    def at_rest(self) -> bool:
        """Whether an answer came and nothing is left to do, or nothing can be done now."""
        if self.memory.state is not State.IDLE or not self._asked or self._job_due():
            return False
        return self.memory.settled or self._trouble is not None or self.memory.failures > 0

    def close(self) -> None:
        """End the server, hang up, note that the stop was orderly, unlock the home."""
        self.parts.server.stop()
        self.link.close()
        with suppress(OSError):
            note(self._journal, self.memory.model_copy(update={"clean": True}))
        self.home.status.unlink(missing_ok=True)
        self._lock.release()

    # Listening and keeping alive

    def _tick(self, seconds: float) -> None:
        self.link.pump(seconds)
        now = self.clock.monotonic()
        if self.link.hinted() or now >= self._poll_at:
            self._poll_at = now + self.parts.config.poll_seconds * random.uniform(0.5, 1.5)  # noqa: S311
            self._poll()
            self._asked = True
        self._serve()
        if now >= self._stats_at:
            self._stats_at = now + STATS_SECONDS
            self.work.stats.pump(self.link)
        if now >= self._status_at:
            self._tell()

    def _between(self) -> None:
        self._tick(0.0)
        outdated = self.memory.superseded and self.memory.state in CANCELLABLE
        if self.stopping or outdated:
            raise InterruptedWorkError

    def _poll(self) -> None:
        """Ask what is desired; a document that is not to be trusted changes nothing."""
        config = self.parts.config
        try:
            data = self.work.controller.desired(config.device)
            if data is not None:
                desired = read_desired(data, config.device, self.parts.trust)
                accepted = accept(self.memory, desired)
                if accepted is not self.memory:
                    self._remember(accepted)
                    self._retry_at = 0.0 if not accepted.failures else self._retry_at
            self._refusal = None
        except TransferError:
            return
        except (EdgewardError, OSError) as error:
            self._refusal = problem_of(error)
        self._ask_for_jobs()
        self._tell()

    def _ask_for_jobs(self) -> None:
        """Hear which jobs there are, and send again what the controller has not got."""
        try:
            data = self.work.controller.jobs(self.parts.config.device)
            if data is None:
                return
            newest = self.jobs.hear(data, self.parts.trust, self.work.now)
            if newest > self.memory.time:
                self._remember(self.memory.model_copy(update={"time": newest}))
            self.jobs.send(self.link)
        except TransferError:
            return
        except (EdgewardError, OSError) as error:
            self.jobs.refusal = problem_of(error)

    def _serve(self) -> None:
        state, good = self.memory.state, self.memory.good
        if state in TRIAL or state in (State.COMMIT, State.ROLLBACK):
            return
        self._check_deaths()
        if good is not None and self.serving != good.bundle and state is State.IDLE:
            self._heal(good.bundle)
        folder = self.store.bundle_path(self.serving) if self.serving else None
        self.keeper.keep(folder, self.serving)

    def _check_deaths(self) -> None:
        """A server that keeps dying may have a damaged bundle under it."""
        deaths = self.keeper.deaths
        if deaths == self._checked_deaths or deaths % CHECK_AT_DEATHS or self.serving is None:
            return
        self._checked_deaths = deaths
        if not self.store.holds(self.serving):
            self.serving = settle(self.store, self.memory)

    def _heal(self, digest: str) -> None:
        now = self.clock.monotonic()
        if now < self._heal_at:
            return
        self._heal_at = now + self.parts.config.poll_seconds
        try:
            repair(self.store, self.work.controller, self.clock, digest, self._no_interruption)
            self.serving = settle(self.store, self.memory)
            self._ailment = None
        except (EdgewardError, OSError) as error:
            self._ailment = problem_of(error)

    def _no_interruption(self) -> None:
        self.link.pump(0.0)
        if self.stopping:
            raise TransferError("The agent is to stop")

    # Working

    def _may_try(self) -> bool:
        return self.clock.monotonic() >= self._retry_at

    def _advance(self) -> None:
        state = self.memory.state
        try:
            if self.memory.superseded and state in CANCELLABLE:
                self._transit(Result(Event.ABANDONED))
                return
            if not self._may_try():
                return
            result = self._steps[state].run(self.work)
            if result is not None:
                self._transit(result)
            if state is State.IDLE:
                self._trouble = None
        except InterruptedWorkError:
            return
        except (EdgewardError, OSError) as error:
            self._stumble(state, error)

    def _update_due(self) -> bool:
        """Whether an update could begin now."""
        desired = self.memory.desired
        if self.memory.settled or desired is None or not self._may_try():
            return False
        try:
            check_window(desired, self.work.now)
        except EdgewardError:
            return False
        return desired.release is not None

    def _job_due(self) -> bool:
        rested = self.clock.monotonic() >= self._job_at
        return rested and self.memory.state is State.IDLE and self.jobs.due(self.work.now)

    def _do_job(self) -> None:
        """Do one job between updates; an update that comes breaks it off, and it waits again."""
        if not self._job_due() or self._update_due():
            return

        def between() -> None:
            self._tick(0.0)
            if self.stopping or self._update_due():
                raise InterruptedWorkError

        try:
            self.jobs.work(self.work, self.link, self.serving, between)
        except InterruptedWorkError:
            return
        except OSError as error:
            self._job_at = self.clock.monotonic() + TROUBLE_PAUSE
            self.jobs.hindrance = problem_of(error)
        self._tell()

    def _stumble(self, state: State, error: EdgewardError | OSError) -> None:
        event = event_for(state, error)
        problem = problem_of(error)
        if event is not None:
            try:
                self._transit(Result(event), problem)
                return
            except OSError as disk:
                problem = problem_of(disk)
        self._trouble = problem
        self._retry_at = self.clock.monotonic() + TROUBLE_PAUSE
        self._tell()

    def _transit(self, result: Result, problem: Problem | None = None) -> None:
        state = self.memory.state
        following = after(state, result.event)
        changes = {**ending(self.memory, result.event, problem), **result.changes}
        self._remember(self.memory.model_copy(update={**changes, "state": following}))
        self._steps[following].enter()
        self._trouble = None
        if state is State.ROLLBACK:
            self.serving = self._good_active()
        if following is State.IDLE:
            self._rest(state, result.event)
        self._tell()

    def _rest(self, state: State, event: Event) -> None:
        failures = self.memory.failures
        if event in (Event.FAILED, Event.ABANDONED) and failures:
            pause = full_jitter(failures, RETRY_BASE, RETRY_CAP)
            self._retry_at = self.clock.monotonic() + pause
        if state in (State.COMMIT, State.ROLLBACK, State.QUARANTINE):
            self.serving = self._good_active()
            self._collect()

    def _good_active(self) -> str | None:
        active = self.store.active()
        goods = (self.memory.good, self.memory.previous)
        return active if any(good and good.bundle == active for good in goods) else None

    # Remembering and telling

    def _boot(self) -> Memory:
        memory = recall(self._journal)
        if memory is None:
            memory = Memory(good=adopt(self.store))
        memory = rebooted(memory)
        note(self._journal, memory)
        return memory

    def _remember(self, memory: Memory) -> None:
        note(self._journal, memory)
        self.memory = self.work.memory = memory

    def _collect(self) -> None:
        memory = self.memory
        if memory.update is None and not memory.settled:
            return
        kept = [good.bundle for good in (memory.good, memory.previous) if good]
        with suppress(OSError):
            self.store.collect(kept, memory.update.bundle if memory.update else None)

    def _tell(self) -> None:
        self._status_at = self.clock.monotonic() + STATUS_SECONDS
        document = reported(
            self.memory,
            device=self.parts.config.device,
            sequence=self._sequence + 1,
            at=max(self.work.now, 0.0),
            active=self.store.active(),
            target=self.parts.device.target,
            fingerprint=self.parts.device.fingerprint,
            free_bytes=self.store.free_bytes(),
            trouble=self._refusal or self._trouble or self._ailment or self.jobs.trouble,
        )
        content = document.model_copy(update={"sequence": 0, "at": 0.0, "free_bytes": 0})
        if content != self._sent:
            self._sequence, self._sent = document.sequence, content
            self.link.report(encode(document))
        here = {
            "pid": os.getpid(),
            "monotonic": self.clock.monotonic(),
            "serving": self.serving,
            "port": self.parts.server.port,
            "connected": self.link.connected,
            "settled": self.memory.settled,
            "floors": self.memory.floors,
        }
        with suppress(OSError):
            write_atomic(self.home.status, status(document, **here), 0o644)
