"""The foreman: asks devices for jobs, lists them for the device, hears what came of them."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from edgeward.runtimes.bundle.canonical import canonical_bytes

from ..protocol.actions import check_arguments
from ..protocol.jobs import MAX_WAITING, Job, JobReport, check_job_size, pack
from ..trust.envelope import seal
from ..trust.keys import SigningKey
from .problems import ConflictError, NotThereError
from .records import JobRecord
from .requests import JobRequest
from .store import Store


class Foreman:
    """Jobs in the registry; a job is sealed once and never changes."""

    def __init__(self, store: Store, key: SigningKey, clock: Callable[[], float]) -> None:
        self.store = store
        self.key = key
        self.clock = clock

    def create(self, device: str, wanted: JobRequest) -> JobRecord:
        """Seal and keep a job; it waits for the device until it expires.

        Raises UnsupportedError for an unknown action, UsageError for arguments that it has not,
        NotThereError where the device never reported, ConflictError where it has too many to do.
        """
        check_arguments(wanted.action, wanted.arguments)
        if self.store.device(device) is None:
            raise NotThereError(
                f"No device {device}",
                why="a device is known once it has reported",
                next="edgeward fleet devices",
            )
        now = self.clock()
        job = Job(
            id=f"j-{secrets.token_hex(8)}",
            device=device,
            action=wanted.action,
            arguments=wanted.arguments,
            timeout_seconds=wanted.timeout_seconds,
            issued_at=now,
            expires_at=now + wanted.expires_seconds,
        )
        envelope = check_job_size(canonical_bytes(seal(job, self.key)))
        record = JobRecord(job, envelope)
        with self.store.transaction():
            if len(self._unexpired(device)) >= MAX_WAITING:
                raise ConflictError(
                    f"{device} has {MAX_WAITING} jobs to do",
                    why="each waits until it is done or expires",
                    next=f"edgeward fleet jobs --device {device}",
                )
            self.store.add_job(record)
        return record

    def hear(self, report: JobReport) -> bool:
        """Keep a report; False where the job is not that device's or has one already."""
        return self.store.end_job(report, self.clock())

    def list_for(self, device: str) -> bytes:
        """Return what the device asks for: its jobs that may begin, the ids without a report."""
        awaited = [record.job.id for record in self.store.jobs(device, open_only=True)]
        return pack([record.envelope for record in self._unexpired(device)], awaited)

    def hints(self) -> list[JobRecord]:
        """Return the first job of every device that has one to do."""
        now = self.clock()
        waiting = [r for r in self.store.jobs(open_only=True) if r.job.expires_at > now]
        return list({record.job.device: record for record in reversed(waiting)}.values())

    def _unexpired(self, device: str) -> list[JobRecord]:
        now = self.clock()
        found = self.store.jobs(device, open_only=True)
        return [record for record in found if record.job.expires_at > now]
