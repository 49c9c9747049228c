"""The controller: hears devices, ticks the rollouts, tells devices what they should run."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from edgeward.errors import EdgewardError

from ..protocol.documents import Policy, Reported
from ..protocol.jobs import JobReport
from ..protocol.topics import topic
from ..trust.keys import SigningKey
from .conductor import Conductor
from .desired import Issuer
from .inbox import Interval, Message, Refusals, read_message
from .jobs import Foreman
from .link import Link
from .records import JobRecord, RolloutRecord
from .requests import JobRequest
from .rollout import Rules
from .store import Store

log = logging.getLogger(__name__)
TICK_SECONDS = 0.25
RENEW_EVERY_SECONDS = 600.0
MAX_WAITING = 20_000
MAX_BATCH = 500


class _Republish:
    """Asks the worker to tell every device again: the broker may have forgotten."""


_REPUBLISH: Final = _Republish()


class Controller:
    """One worker thread writes; anybody may ask it to roll out, halt or resume."""

    def __init__(
        self,
        store: Store,
        key: SigningKey,
        link: Link,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.refusals = Refusals(clock)
        self.dropped = 0
        self._clock = clock
        self._link = link
        self._issuer = Issuer(store, key, clock)
        self._conductor = Conductor(store, self._issuer, clock)
        self._foreman = Foreman(store, key, clock)
        self._waiting: queue.Queue[Message | _Republish] = queue.Queue(MAX_WAITING)
        self._send_lock = threading.Lock()
        self._stopping = threading.Event()
        self._worker = threading.Thread(target=self._work, name="controller", daemon=True)
        self._next_renewal = 0.0

    def start(self) -> None:
        """Connect and begin; everything persisted is published again."""
        self._link.start(self.on_message, lambda: self._put(_REPUBLISH))
        self._worker.start()

    def stop(self) -> None:
        """Finish what was heard, then end."""
        self._stopping.set()
        if self._worker.is_alive():
            self._worker.join(timeout=30)
        self._link.stop()

    def on_message(self, name: str, payload: bytes) -> None:
        """Take a message from the broker; whatever it is, this returns."""
        try:
            message = read_message(name, payload)
        except EdgewardError as error:
            self.refusals.add(name, error)
        except Exception:
            self.dropped += 1
            log.exception("a message could not be read")
        else:
            if message is not None:
                self._put(message)

    def create_rollout(
        self, model: str, version: str, to: str, rules: Rules, policy: Policy
    ) -> RolloutRecord:
        """Create a rollout and open its first wave; see `Conductor.create`."""
        record = self._conductor.create(model, version, to, rules, policy)
        self._send()
        return record

    def halt(self, rollout: str, reason: str) -> RolloutRecord:
        """Stop a rollout: devices that have not committed go back."""
        record = self._conductor.halt(rollout, reason)
        self._send()
        return record

    def resume(self, rollout: str, retry_failed: bool = False) -> RolloutRecord:
        """Go on with a halted rollout."""
        record = self._conductor.resume(rollout, retry_failed)
        self._send()
        return record

    def create_job(self, device: str, wanted: JobRequest) -> JobRecord:
        """Ask a device for a job; see `Foreman.create`."""
        record = self._foreman.create(device, wanted)
        with self._send_lock:
            self._hint(record)
        return record

    @property
    def foreman(self) -> Foreman:
        """For reading: the jobs."""
        return self._foreman

    @property
    def conductor(self) -> Conductor:
        """For reading: rollouts and their progress."""
        return self._conductor

    def step(self, messages: Sequence[Message] = ()) -> None:
        """Apply messages and do all that is due: the worker's work, once."""
        self._apply(messages)
        self._conductor.tick()
        if self._clock() >= self._next_renewal:
            self._next_renewal = self._clock() + RENEW_EVERY_SECONDS
            self._issuer.renew()
        self._send()

    def _work(self) -> None:
        while not (self._stopping.is_set() and self._waiting.empty()):
            batch = self._batch()
            try:
                if any(item is _REPUBLISH for item in batch):
                    self._tell_everybody()
                self.step([item for item in batch if not isinstance(item, _Republish)])
            except Exception:
                log.exception("the controller could not finish a step, it goes on")
                self._stopping.wait(1)

    def _batch(self) -> list[Message | _Republish]:
        batch: list[Message | _Republish] = []
        try:
            batch.append(self._waiting.get(timeout=TICK_SECONDS))
            while len(batch) < MAX_BATCH:
                batch.append(self._waiting.get_nowait())
        except queue.Empty:
            pass
        return batch

    def _apply(self, messages: Sequence[Message]) -> None:
        """Apply all in one transaction, or, where that fails, each in its own."""
        if not messages:
            return
        try:
            with self.store.transaction():
                for message in messages:
                    self._take(message)
        except Exception:
            log.exception("%d messages could not be kept together", len(messages))
            for message in messages:
                self._take_alone(message)

    def _take_alone(self, message: Message) -> None:
        try:
            with self.store.transaction():
                self._take(message)
        except Exception:
            self.dropped += 1
            log.exception("a message was dropped")

    def _take(self, message: Message) -> None:
        now = self._clock()
        if isinstance(message, Interval):
            self.store.save_stats(message.stats, message.totals, now)
        elif isinstance(message, JobReport):
            self._foreman.hear(message)
        elif isinstance(message, Reported):
            if self.store.save_reported(message, now):
                self._conductor.hear(message)
        else:
            self.store.save_online(message, now)

    def _put(self, item: Message | _Republish) -> None:
        try:
            self._waiting.put_nowait(item)
        except queue.Full:
            self.dropped += 1

    def _tell_everybody(self) -> None:
        with self._send_lock:
            for record in self.store.all_desired():
                self._link.publish(topic(record.document.device, "desired"), record.envelope)
            for job in self._foreman.hints():
                self._hint(job)

    def _hint(self, record: JobRecord) -> None:
        """Tell a device that there is a job; one that does not hear it will ask."""
        self._link.publish(topic(record.job.device, "cmd"), record.envelope, retain=False)

    def _send(self) -> None:
        with self._send_lock:
            for record in self._issuer.take_unsent():
                self._link.publish(topic(record.document.device, "desired"), record.envelope)
