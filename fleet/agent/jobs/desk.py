"""The agent's desk for jobs: hears of them, lets one at a time be done, sends what came of it."""

from __future__ import annotations

from collections.abc import Callable

from edgeward.errors import EdgewardError, TrustError
from edgeward.runtimes.child import Ended, run_limited

from ...protocol.documents import Problem
from ...protocol.jobs import Job, JobReport, JobState, unpack
from ...protocol.wire import encode
from ...trust.envelope import unseal
from ..config import Trust
from ..endings import problem_of
from ..home import Home
from ..link import Link
from ..refusals import InterruptedWorkError
from ..work import Work
from .ledger import Ledger, Waiting, taken, tried
from .order import Answer, Order, read_answer

MAX_ATTEMPTS = 3


class Desk:
    """One device's jobs.

    `refusal` is what is wrong with those that came last, `hindrance` what keeps one from being
    done.
    """

    def __init__(self, home: Home, device: str) -> None:
        self.refusal: Problem | None = None
        self.hindrance: Problem | None = None
        self._home = home
        self._device = device
        self._ledger = Ledger(home.jobs)
        self._running: str | None = None

    def hear(self, data: bytes, trust: Trust, now: float) -> float:
        """Take the jobs of a controller's list; return the newest time that a signed one carried.

        A job that is not to be trusted changes nothing. Raises ProtocolError where it is no list,
        OSError where the disk refuses.
        """
        envelopes, awaited = unpack(data)
        newest, self.refusal = 0.0, None
        self._ledger.settle(awaited, now, self._running)
        for envelope in envelopes:
            try:
                job = read_job(envelope, self._device, trust)
            except EdgewardError as error:
                self.refusal = problem_of(error)
                continue
            newest = max(newest, job.issued_at)
            self._ledger.keep(taken(self._ledger.jobs, job, max(now, newest)))
        return newest

    @property
    def trouble(self) -> Problem | None:
        """What there is to say of jobs."""
        return self.refusal or self.hindrance

    def due(self, now: float) -> bool:
        """Whether a job waits to be done."""
        return self._next(now) is not None

    def send(self, link: Link) -> None:
        """Send every report that the controller is not known to have."""
        for report in self._ledger.reports():
            link.send_result(encode(report))

    def work(
        self, work: Work, link: Link, serving: str | None, between: Callable[[], None]
    ) -> None:
        """Do the job that has waited longest, where one may begin; keep and send its report.

        Whatever `between` raises breaks it off, and it waits again. OSError where the disk
        refuses.
        """
        waiting = self._next(work.now)
        if waiting is None:
            return
        job = waiting.job
        self._running = job.id
        try:
            answer = self._answer(waiting, work, serving, between)
        finally:
            self._running = None
        report = JobReport(
            job=job.id,
            device=self._device,
            state=answer.state,
            problem=answer.problem,
            result=answer.result,
            at=max(work.now, 0.0),
        )
        self._ledger.file(report)
        self.hindrance = None
        link.send_result(encode(report))

    def _answer(
        self, waiting: Waiting, work: Work, serving: str | None, between: Callable[[], None]
    ) -> Answer:
        job = waiting.job
        if waiting.attempts >= MAX_ATTEMPTS:
            return failed(
                "UnfinishedError",
                f"The job was begun {waiting.attempts} times and never ended",
                "the agent or its disk failed in it each time: it is given up",
            )

        def goes_on() -> None:
            between()
            if not self._ledger.jobs.knows(job.id):
                raise InterruptedWorkError

        # A death from here on counts; an interruption in order does not.
        self._ledger.keep(tried(self._ledger.jobs, job.id, 1))
        order = Order(
            job=job, home=str(self._home.root), target=work.device.target, serving=serving
        )
        try:
            done = run_limited(
                [*work.commands.job, order.to_json()],
                seconds=job.timeout_seconds,
                memory_bytes=work.device.memory_bytes,
                clock=work.clock,
                between=goes_on,
                environment=self._home.environment,
            )
        except InterruptedWorkError:
            self._ledger.keep(tried(self._ledger.jobs, job.id, -1))
            raise
        return judged(done)

    def _next(self, now: float) -> Waiting | None:
        return next((w for w in self._ledger.jobs.waiting if w.job.expires_at > now), None)


def read_job(envelope: dict[str, object], device: str, trust: Trust) -> Job:
    """Return a job once the controller's signature and the addressee hold.

    Raises TrustError where they do not, ProtocolError where it is no job.
    """
    job = unseal(envelope, Job, trust.controller)
    if job.device != device:
        raise TrustError(
            f"The job {job.id} is another device's: {job.device}", why=f"this device is {device}"
        )
    return job


def judged(done: Ended) -> Answer:
    """Return what a child's end means."""
    if done.stopped:
        return failed("StageLimitError", "The job was stopped", done.stopped)
    if done.status < 0:
        return failed("StageCrashedError", f"The job died of signal {-done.status}", done.errors)
    try:
        return read_answer(done.output)
    except EdgewardError as error:
        return failed("ProtocolError", error.what, done.errors or error.why)


def failed(error: str, what: str, why: str) -> Answer:
    """Return the answer of a job that came to nothing."""
    return Answer(
        state=JobState.FAILED, problem=Problem(error=error, what=what[:2000], why=why[-2000:])
    )
