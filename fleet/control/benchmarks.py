"""What `bench --on` asks the fleet: a `edgeward.targets.bench.elsewhere.Fleet`, as a module."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeward.errors import EdgewardError, FleetError, UsageError

from ..protocol.jobs import MAX_WAITING
from .client import Client
from .place import default_home
from .problems import from_json

ACTION = "benchmark"
POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of one job: the record, or the error."""

    job: str
    record: dict[str, Any] | None = None
    error: EdgewardError | None = None


@dataclass(frozen=True, slots=True)
class Orders:
    """Jobs that a controller has, in the order in which they were asked for."""

    client: Client
    jobs: Sequence[str]
    pause: float = POLL_SECONDS

    def results(self, wait_seconds: float) -> Iterator[Measured]:
        """Give what comes of each; FleetError where the wait is over before."""
        end = time.monotonic() + wait_seconds
        for number, job in enumerate(self.jobs):
            found = self.client.job(job)
            while found["state"] == "open":
                if time.monotonic() >= end:
                    raise _still_open(found, self.jobs[number:])
                time.sleep(min(self.pause, max(end - time.monotonic(), 0.0)))
                found = self.client.job(job)
            yield measured(found)


def order(
    home: Path | None, device: str, benchmarks: Sequence[Mapping[str, Any]], timeout: float
) -> Orders:
    """Ask a device to measure each; UsageError for more than it takes at once.

    Raises FleetError where no controller answers, NotThereError where it does not know the device.
    """
    if len(benchmarks) > MAX_WAITING:
        raise UsageError(f"{len(benchmarks)} combinations; a device takes {MAX_WAITING} at once")
    if timeout > 86_400:
        raise UsageError("--timeout is a day at most on a device")
    client = Client.of_home(home or default_home())
    asked: list[str] = []
    for each in benchmarks:
        request = {"action": ACTION, "arguments": dict(each), "timeout_seconds": float(timeout)}
        try:
            asked.append(str(client.create_job(device, request)["id"]))
        except EdgewardError as error:
            if asked:
                error.next = f"edgeward bench fetch {' '.join(asked)}, which were asked for before"
            raise
    return Orders(client, asked)


def ordered(home: Path | None, jobs: Sequence[str]) -> Orders:
    """Return what was asked before."""
    return Orders(Client.of_home(home or default_home()), list(jobs))


def measured(job: Mapping[str, Any]) -> Measured:
    """Return what a job's view says of it; nothing of the record was checked."""
    name, report = str(job["id"]), job.get("report")
    if job["action"] != ACTION:
        return Measured(name, error=UsageError(f"{name} is a job {job['action']}"))
    if report is None:
        why = f"{job['device']} has not begun it in time"
        return Measured(name, error=FleetError(f"The job {name} has expired", why=why))
    if report["state"] != "done":
        return Measured(name, error=from_json(report["problem"], 500))
    # The controller's word on whose job it was counts, not the record's.
    return Measured(name, record={**report["result"], "device": job["device"], "job": name})


def _still_open(job: Mapping[str, Any], left: Sequence[str]) -> FleetError:
    return FleetError(
        f"{job['device']} has not answered yet",
        why="the job waits for it until it expires",
        next=f"edgeward bench fetch {' '.join(left)}",
    )
