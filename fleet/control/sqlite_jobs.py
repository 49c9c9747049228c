"""The registry's jobs."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager
from typing import Any

from ..protocol.jobs import MAX_AWAITED, JobReport
from . import rows
from .records import JobRecord

MAX_ENDED = 64


class SqliteJobs:
    """The part of `SqliteStore` that keeps jobs."""

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing."""
        raise NotImplementedError

    def _execute(self, query: str, *values: Any) -> sqlite3.Cursor:
        raise NotImplementedError

    def _all(self, query: str, *values: Any) -> list[sqlite3.Row]:
        raise NotImplementedError

    def add_job(self, record: JobRecord) -> None:
        """Keep a new job; the oldest of its device go when there are too many."""
        job = record.job
        with self.transaction():
            self._execute(
                "INSERT INTO jobs (id, device, document, envelope, issued_at, expires_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                job.id,
                job.device,
                rows.dump(job),
                record.envelope,
                job.issued_at,
                job.expires_at,
            )
            self._prune_jobs(job.device, "state IS NULL", MAX_AWAITED)
            self._prune_jobs(job.device, "state IS NOT NULL", MAX_ENDED)

    def end_job(self, report: JobReport, now: float) -> bool:
        """Keep what came of a job of the report's device, once."""
        with self.transaction():
            changed = self._execute(
                "UPDATE jobs SET state = ?, report = ?, ended_at = ?"
                " WHERE id = ? AND device = ? AND state IS NULL",
                report.state.value,
                rows.dump(report),
                now,
                report.job,
                report.device,
            )
        return changed.rowcount > 0

    def job(self, job: str) -> JobRecord | None:
        """Return one job."""
        found = self._all("SELECT * FROM jobs WHERE id = ?", job)
        return rows.job(found[0]) if found else None

    def jobs(
        self, device: str | None = None, *, open_only: bool = False, limit: int = -1
    ) -> list[JobRecord]:
        """Return jobs, the oldest first; of more than `limit` the latest."""
        query = (
            "SELECT * FROM jobs WHERE (? IS NULL OR device = ?) AND (NOT ? OR state IS NULL)"
            " ORDER BY issued_at DESC, rowid DESC LIMIT ?"
        )
        found = self._all(query, device, device, open_only, limit)
        return [rows.job(row) for row in reversed(found)]

    def _prune_jobs(self, device: str, which: str, kept: int) -> None:
        self._execute(
            f"DELETE FROM jobs WHERE device = ? AND {which} AND rowid NOT IN"  # noqa: S608 - `which` is a literal of this file
            f" (SELECT rowid FROM jobs WHERE device = ? AND {which}"
            " ORDER BY issued_at DESC, rowid DESC LIMIT ?)",
            device,
            device,
            kept,
        )
