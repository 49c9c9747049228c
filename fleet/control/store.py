"""The controller's memory: one interface, opened by URL.

`sqlite:///PATH` is built in; other databases answer to the same class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from edgeward.errors import UsageError

from ..protocol.documents import Online, Reported, Stats
from ..protocol.jobs import JobReport
from .records import (
    DesiredRecord,
    DeviceRecord,
    Event,
    JobRecord,
    MemberRecord,
    ReleaseRecord,
    RolloutRecord,
)
from .stats import Totals

SQLITE = "sqlite:///"


class Store(ABC):
    """All methods are safe to call from several threads; writes outside a transaction are one."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing, and durable once the block is left in peace."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the database."""

    @abstractmethod
    def save_reported(self, reported: Reported, now: float) -> bool:
        """Keep a report unless one with the same or a later (boot, sequence) is there."""

    @abstractmethod
    def save_online(self, online: Online, now: float) -> bool:
        """Keep a birth or a will unless a later connection has been heard of."""

    @abstractmethod
    def save_stats(self, stats: Stats, totals: Totals, now: float) -> bool:
        """Merge an interval unless the same or a later (boot, sequence) was merged before."""

    @abstractmethod
    def device(self, device: str) -> DeviceRecord | None:
        """Return one device."""

    @abstractmethod
    def devices(self) -> list[DeviceRecord]:
        """Return all devices by id."""

    @abstractmethod
    def forget_device(self, device: str) -> bool:
        """Drop all that is known of a device but its part in rollouts."""

    @abstractmethod
    def set_labels(self, device: str, add: Sequence[str], remove: Sequence[str]) -> None:
        """Change a device's labels."""

    @abstractmethod
    def desired(self, device: str) -> DesiredRecord | None:
        """Return what a device should run."""

    @abstractmethod
    def all_desired(self) -> list[DesiredRecord]:
        """Return what every device should run."""

    @abstractmethod
    def save_desired(self, record: DesiredRecord) -> None:
        """Keep a desired document; FleetError where its generation would go back."""

    @abstractmethod
    def add_release(self, record: ReleaseRecord) -> None:
        """Keep a release; ConflictError where the model has the version or sequence already."""

    @abstractmethod
    def release(self, digest: str) -> ReleaseRecord | None:
        """Return a release by the digest of what was signed."""

    @abstractmethod
    def releases(self) -> list[ReleaseRecord]:
        """Return all releases by model and sequence."""

    @abstractmethod
    def save_rollout(self, record: RolloutRecord) -> None:
        """Add or replace a rollout."""

    @abstractmethod
    def rollout(self, rollout: str) -> RolloutRecord | None:
        """Return one rollout."""

    @abstractmethod
    def rollouts(self) -> list[RolloutRecord]:
        """Return all rollouts, oldest first."""

    @abstractmethod
    def save_members(self, records: Sequence[MemberRecord]) -> None:
        """Add or replace members of rollouts."""

    @abstractmethod
    def members(self, rollout: str) -> list[MemberRecord]:
        """Return a rollout's members by wave and device."""

    @abstractmethod
    def memberships(self, device: str) -> list[MemberRecord]:
        """Return a device's part in every rollout."""

    @abstractmethod
    def add_job(self, record: JobRecord) -> None:
        """Keep a new job; the oldest of its device go when there are too many."""

    @abstractmethod
    def end_job(self, report: JobReport, now: float) -> bool:
        """Keep what came of a job of the report's device, once; False for anything else."""

    @abstractmethod
    def job(self, job: str) -> JobRecord | None:
        """Return one job."""

    @abstractmethod
    def jobs(
        self, device: str | None = None, *, open_only: bool = False, limit: int = -1
    ) -> list[JobRecord]:
        """Return jobs, the oldest first; of more than `limit` (-1: all) the latest.

        `open_only` leaves out those that have a report.
        """

    @abstractmethod
    def add_event(self, event: Event) -> None:
        """Write a line of the timeline; the oldest go when there are too many."""

    @abstractmethod
    def events(self, rollout: str | None = None, limit: int = 200) -> list[Event]:
        """Return the latest lines, oldest first."""

    @abstractmethod
    def stats(
        self, *, since: float = 0.0, bundles: Sequence[str] | None = None
    ) -> list[tuple[str, str, Totals]]:
        """Return (device, bundle, totals) over the buckets that end after `since`."""

    @abstractmethod
    def traffic(self, rollout: str, bundles: Sequence[str]) -> tuple[int, int]:
        """Return the requests and errors that a rollout's members counted on `bundles`."""


def open_store(url: str) -> Store:
    """Open the database at `url`; UsageError for a kind that is not known."""
    if not url.startswith(SQLITE):
        raise UsageError(
            f"Unknown kind of database: {url.partition(':')[0]}", why="known: sqlite:///PATH"
        )
    from .sqlite import SqliteStore

    return SqliteStore(Path(url.removeprefix(SQLITE)))
