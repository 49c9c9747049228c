"""Which jobs wait and which were done, journaled; and their reports, until the controller has them.

A report is on the disk before its job counts as done, so that a death between loses neither.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from pydantic import Field

from edgeward.errors import EdgewardError
from edgeward.runtimes.bundle.canonical import canonical_bytes

from ...protocol.fields import Counter, Document, JobId, UnixTime
from ...protocol.jobs import MAX_WAITING, Job, JobReport
from ...protocol.wire import MAX_MESSAGE_BYTES, decode, encode
from ..files import write_atomic
from ..journal import Journal
from ..recall import newest

MAX_DONE = 512


class Waiting(Document):
    """A job to be done; `attempts` counts the begun ones that nobody ended in order."""

    job: Job
    attempts: Counter = 0


class Done(Document):
    """A job that is not done again; once it has expired nobody could ask it."""

    id: JobId
    expires_at: UnixTime


class Jobs(Document):
    """What is known of jobs. Those done whose time was `floor` or earlier are forgotten."""

    waiting: list[Waiting] = Field(default_factory=list, max_length=MAX_WAITING)
    done: list[Done] = Field(default_factory=list, max_length=MAX_DONE)
    floor: UnixTime = 0.0

    def knows(self, job: str) -> bool:
        """Whether it waits or was done."""
        return job in {*(each.id for each in self.done), *(each.job.id for each in self.waiting)}


def taken(jobs: Jobs, job: Job, now: float) -> Jobs:
    """Return the jobs with one more; the same where it is known, has expired or has no room."""
    if jobs.knows(job.id) or job.expires_at <= max(now, jobs.floor):
        return jobs
    roomy = _with_room(jobs, now)
    if len(roomy.waiting) >= MAX_WAITING or len(roomy.done) + len(roomy.waiting) >= MAX_DONE:
        return jobs
    return roomy.model_copy(update={"waiting": [*roomy.waiting, Waiting(job=job)]})


def ended(jobs: Jobs, job: str) -> Jobs:
    """Return the jobs with this one done."""
    done = [Done(id=w.job.id, expires_at=w.job.expires_at) for w in jobs.waiting if w.job.id == job]
    rest = [each for each in jobs.waiting if each.job.id != job]
    return jobs.model_copy(update={"waiting": rest, "done": [*jobs.done, *done]})


def tried(jobs: Jobs, job: str, by: int) -> Jobs:
    """Return the jobs with this one's attempts changed."""
    waiting = [
        each.model_copy(update={"attempts": max(0, each.attempts + by)})
        if each.job.id == job
        else each
        for each in jobs.waiting
    ]
    return jobs.model_copy(update={"waiting": waiting})


def without(jobs: Jobs, awaited: frozenset[str], now: float, running: str | None) -> Jobs:
    """Return the jobs that may still be done: awaited, and not expired before they began."""
    waiting = [
        each
        for each in jobs.waiting
        if each.job.id in awaited and (each.job.expires_at > now or each.job.id == running)
    ]
    return (
        jobs if len(waiting) == len(jobs.waiting) else jobs.model_copy(update={"waiting": waiting})
    )


def _with_room(jobs: Jobs, now: float) -> Jobs:
    """Forget what has expired, and with it everything as old: a replay is below the floor."""
    if len(jobs.done) + len(jobs.waiting) < MAX_DONE:
        return jobs
    old = [each.expires_at for each in jobs.done if each.expires_at <= now]
    kept = [each for each in jobs.done if each.expires_at > now]
    return jobs.model_copy(update={"done": kept, "floor": max([jobs.floor, *old])})


class Ledger:
    """The jobs of one home, on its disk; OSError where that refuses."""

    def __init__(self, folder: Path) -> None:
        self._reports = folder / "reports"
        self._reports.mkdir(parents=True, exist_ok=True)
        self._journal = Journal(folder / "journal")
        self.jobs = newest(self._journal, Jobs) or Jobs()
        for report in self.reports():
            self.keep(ended(self.jobs, report.job))

    def keep(self, jobs: Jobs) -> None:
        """Journal a change."""
        if jobs != self.jobs:
            self._journal.append(canonical_bytes(jobs.model_dump(mode="json")))
            self.jobs = jobs

    def file(self, report: JobReport) -> None:
        """Keep a report, and the job as done."""
        write_atomic(self._reports / report.job, encode(report))
        self.keep(ended(self.jobs, report.job))

    def reports(self) -> list[JobReport]:
        """Return the reports that wait; what is none is removed."""
        found = [(path, _report_at(path)) for path in sorted(self._reports.iterdir())]
        for path, report in found:
            if report is None:
                path.unlink(missing_ok=True)
        return [report for _, report in found if report is not None]

    def settle(self, awaited: frozenset[str], now: float, running: str | None = None) -> None:
        """Forget the reports that the controller has, and the jobs that it no longer wants."""
        for path in self._reports.iterdir():
            if path.name not in awaited:
                path.unlink(missing_ok=True)
        self.keep(without(self.jobs, awaited, now, running))


def _report_at(path: Path) -> JobReport | None:
    with suppress(OSError, EdgewardError), path.open("rb") as file:
        report = decode(file.read(MAX_MESSAGE_BYTES + 1), JobReport)
        return report if report.job == path.name else None
    return None
