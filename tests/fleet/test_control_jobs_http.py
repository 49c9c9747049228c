"""Jobs over HTTP and on the operator's command line, with a device on a real broker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3
from control_support import SimulatedDevice, until
from typed import typed

from edgeward.errors import FleetError, UnsupportedError, UsageError
from edgeward.fleet.control.benchmarks import measured, order
from edgeward.fleet.control.client import Client
from edgeward.fleet.control.home import FleetHome
from edgeward.fleet.control.problems import NotThereError
from edgeward.fleet.control.up import Options, fleet
from edgeward.fleet.protocol.jobs import MAX_WAITING, Job, JobReport, JobState, unpack
from edgeward.fleet.protocol.topics import topic
from edgeward.fleet.protocol.wire import encode
from edgeward.fleet.trust.envelope import unseal
from edgeward.fleet.trust.keys import public_key

BENCHMARK = {"action": "benchmark", "arguments": {"threads": 1}}


@dataclass(frozen=True)
class Up:
    home: Path
    url: str
    client: Client
    device: SimulatedDevice

    def listed(self) -> tuple[list[str], frozenset[str]]:
        """Return what the device sees, without a token."""
        answer = urllib3.request("GET", f"{self.url}/v1/devices/d0/jobs")
        assert answer.status == 200
        key = public_key(self.client.trust()["controller_keys"][0])
        envelopes, awaited = unpack(answer.data)
        return [unseal(each, Job, [key]).id for each in envelopes], awaited

    def tell(self, job: str, under: str = "d0", **changes: Any) -> None:
        """Let the device report."""
        fields = {"job": job, "device": "d0", "state": JobState.DONE, "at": 1.0}
        report = JobReport(**{**fields, **changes})
        self.device.client.publish(topic(under, "result"), encode(report), qos=1)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    home = tmp_path_factory.mktemp("jobs") / "home"
    with fleet(Options(home, http_port=0)) as urls:
        client = Client.of_home(home)
        FleetHome(home).read_token()
        device = SimulatedDevice("d0", urls.mqtt, None)
        try:
            until(client.devices, "the device has reported")
            yield Up(home, urls.http, client, device)
        finally:
            device.stop()


def test_a_job_goes_out_and_its_report_comes_back(up: Up) -> None:
    job = str(up.client.create_job("d0", BENCHMARK)["id"])
    assert job in up.listed()[0]
    up.tell(job, under="d1", state=JobState.FAILED)
    up.tell(job, device="d1", under="d1")
    up.tell(job, result={"x": 1.5})
    up.tell(job, result={"x": 2.5})
    found = until(lambda: _ended(up, job), "the report has come")
    assert (found["state"], found["report"]["result"]) == ("done", {"x": 1.5})
    assert job not in up.listed()[1]
    until(lambda: up.client.status()["messages_refused"] >= 1, "the forged one is refused")
    rows = json.loads(typed("fleet", "jobs", "--home", up.home, "-o", "json").stdout)
    assert {"id": job, "device": "d0", "action": "benchmark", "state": "done"}.items() <= next(
        row for row in rows if row["id"] == job
    ).items()
    shown = json.loads(typed("fleet", "jobs", "show", job, "--home", up.home).stdout)
    assert shown == up.client.job(job)
    assert typed("fleet", "jobs", "--home", up.home, "--device", "d7").stdout.count("j-") == 0


def _ended(up: Up, job: str) -> dict[str, Any] | None:
    found = up.client.job(job)
    return found if found["state"] != "open" else None


@pytest.mark.parametrize(
    ("device", "body", "error"),
    [
        ("d0", {"action": "reboot"}, UnsupportedError),
        ("d0", {"action": "benchmark", "arguments": {"batch": 0}}, UsageError),
        ("d0", {**BENCHMARK, "expires_seconds": 0}, UsageError),
        ("d0", {**BENCHMARK, "timeout_seconds": 1e9}, UsageError),
        ("d0", {**BENCHMARK, "shell": "rm"}, UsageError),
        ("d0", {"action": "benchmark", "arguments": {"bundle": "x"}}, UsageError),
        ("d9", BENCHMARK, NotThereError),
    ],
)
def test_a_request_that_is_wrong_is_refused(
    up: Up, device: str, body: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        up.client.create_job(device, body)


def test_unknown_names_are_told(up: Up) -> None:
    with pytest.raises(NotThereError):
        up.client.job("j-none")
    answer = urllib3.request("GET", f"{up.url}/v1/devices/UPPER/jobs")
    assert answer.status == 400
    assert urllib3.request("GET", f"{up.url}/v1/devices/d9/jobs").status == 200


def test_benchmarks_are_ordered_and_waited_for(up: Up) -> None:
    orders = order(up.home, "d0", [{"threads": 1}, {"threads": 2}], 60.0)
    with pytest.raises(FleetError, match="not answered") as caught:
        list(orders.results(0.0))
    assert caught.value.next == f"edgeward bench fetch {' '.join(orders.jobs)}"
    up.tell(orders.jobs[0], result={"device": "another", "n": 1})
    problem = {"error": "RefusedJobError", "what": "No bundle is active", "why": ""}
    up.tell(orders.jobs[1], state=JobState.REFUSED, problem=problem)
    first, second = orders.results(20.0)
    assert first.record == {"device": "d0", "n": 1, "job": orders.jobs[0]}
    assert "No bundle is active" in str(second.error)
    with pytest.raises(UsageError) as caught_late:
        order(up.home, "d0", [{"threads": 1}, {"threads": -1}], 60.0)
    assert caught_late.value.next.startswith("edgeward bench fetch j-")
    with pytest.raises(UsageError, match="at once"):
        order(up.home, "d0", [{}] * (MAX_WAITING + 1), 60.0)


def test_a_job_that_expired_or_is_another_kind_is_an_error() -> None:
    view = {"id": "j-1", "device": "d", "action": "benchmark", "state": "expired", "report": None}
    assert "has expired" in str(measured(view).error)
    assert "is a job collect" in str(measured({**view, "action": "collect"}).error)
