"""The controller's jobs: sealed, listed, heard once, from whom they were asked for alone."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from control_support import Bench, bench

from edgeward.errors import FleetError, UnsupportedError, UsageError
from edgeward.fleet import control
from edgeward.fleet.control import sqlite_jobs
from edgeward.fleet.control.problems import ConflictError, NotThereError
from edgeward.fleet.control.requests import JobRequest
from edgeward.fleet.control.sqlite import SqliteStore
from edgeward.fleet.control.sqlite_schema import SCHEMA_VERSION
from edgeward.fleet.control.views import job_detail, job_view
from edgeward.fleet.protocol.jobs import MAX_AWAITED, MAX_WAITING, Job, JobReport, JobState, unpack
from edgeward.fleet.protocol.topics import topic
from edgeward.fleet.protocol.wire import encode
from edgeward.fleet.trust.envelope import unseal


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as found:
        found.say("d0")
        found.say("d1")
        yield found


def ask(made: Bench, device: str = "d0", **changes: Any) -> Job:
    wanted = JobRequest(**{"action": "benchmark", "arguments": {"threads": 1}, **changes})
    return made.controller.create_job(device, wanted).job


def tell(made: Bench, job: str, device: str = "d0", under: str = "d0", **changes: Any) -> None:
    report = JobReport(
        **{"job": job, "device": device, "state": JobState.DONE, "at": 1.0, **changes}
    )
    made.controller.on_message(topic(under, "result"), encode(report))
    made.work()


def listed(made: Bench, device: str = "d0") -> tuple[list[str], set[str]]:
    envelopes, awaited = unpack(made.controller.foreman.list_for(device))
    jobs = [unseal(each, Job, [made.key.public]) for each in envelopes]
    assert all(job.device == device for job in jobs)
    return [job.id for job in jobs], set(awaited)


def state(made: Bench, job: str) -> str:
    record = made.store.job(job)
    assert record is not None
    return str(job_view(record, made.clock.now)["state"])


def test_a_job_is_sealed_hinted_and_listed_until_its_report_comes(made: Bench) -> None:
    job = ask(made)
    hint = unseal(made.link.sent[topic("d0", "cmd")], Job, [made.key.public])
    assert hint == job
    assert listed(made) == ([job.id], {job.id})
    assert listed(made, "d1") == ([], set())
    tell(made, job.id, result={"latency_p50_ms": 1.5})
    assert listed(made) == ([], set())
    record = made.store.job(job.id)
    assert record is not None
    shown = job_detail(record, made.clock.now)
    assert (shown["state"], shown["report"]["result"]) == ("done", {"latency_p50_ms": 1.5})
    assert shown["ended_at"] == made.clock.now


def test_nobody_speaks_for_another(made: Bench) -> None:
    job = ask(made)
    tell(made, job.id, device="d1", under="d1")
    tell(made, job.id, device="d0", under="d1")
    made.controller.on_message(topic("d0", "cmd"), b"{}")
    tell(made, "j-unknown")
    assert state(made, job.id) == "open"
    assert made.controller.refusals.total == 2
    assert listed(made) == ([job.id], {job.id})


def test_a_second_report_changes_nothing(made: Bench) -> None:
    job = ask(made)
    for result in ({"x": 1}, {"x": 1}, {"x": 2}):
        tell(made, job.id, result=result)
    tell(made, job.id, state=JobState.FAILED)
    record = made.store.job(job.id)
    assert record is not None
    assert record.report is not None
    assert (record.report.state, record.report.result) == (JobState.DONE, {"x": 1})


def test_an_expired_job_is_not_begun_but_its_report_is_still_taken(made: Bench) -> None:
    job = ask(made, expires_seconds=100.0)
    made.clock.now += 100.0
    assert listed(made) == ([], {job.id})
    assert state(made, job.id) == "expired"
    tell(made, job.id)
    assert state(made, job.id) == "done"


def test_only_so_many_wait_for_a_device(made: Bench) -> None:
    for _ in range(MAX_WAITING):
        last = ask(made)
    with pytest.raises(ConflictError, match="jobs to do"):
        ask(made)
    ask(made, "d1")
    tell(made, last.id)
    ask(made)
    made.clock.now += 86_400.0
    ask(made)


def test_what_is_kept_is_bounded(made: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_jobs, "MAX_ENDED", 3)
    ended = [ask(made).id for _ in range(5)]
    for job in ended:
        tell(made, job)
    kept = ask(made, "d1").id
    assert {r.job.id for r in made.store.jobs()} == {*ended, kept}
    for _ in range(MAX_AWAITED + 5):
        made.clock.now += 1.0
        last = ask(made, expires_seconds=1.0)
    assert len(made.store.jobs("d0", open_only=True)) == MAX_AWAITED
    assert [r.job.id for r in made.store.jobs("d0") if r.report] == ended[-3:]
    assert made.store.jobs(limit=1)[0].job.id == last.id
    assert made.store.job(kept) is not None


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"action": "reboot"}, UnsupportedError),
        ({"arguments": {"batch": 0}}, UsageError),
        ({"device": "d9"}, NotThereError),
    ],
)
def test_what_cannot_be_asked_is_refused_before_it_is_kept(
    made: Bench, changes: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        ask(made, **changes)
    assert made.store.jobs() == []


def test_a_restarted_controller_hints_again_and_a_forgotten_device_has_no_jobs(made: Bench) -> None:
    first, other = ask(made), ask(made, "d1")
    ask(made)
    made.restart()
    made.controller._tell_everybody()
    for device, job in (("d0", first), ("d1", other)):
        assert unseal(made.link.sent[topic(device, "cmd")], Job, [made.key.public]) == job
    made.store.forget_device("d0")
    assert [record.job.id for record in made.store.jobs()] == [other.id]


def schema(path: Path) -> set[tuple[str, str]]:
    with sqlite3.connect(path) as database:
        return set(database.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))


def test_a_registry_of_the_first_schema_is_upgraded_and_keeps_what_it_has(tmp_path: Path) -> None:
    fresh, old = tmp_path / "fresh.sqlite", tmp_path / "old.sqlite"
    SqliteStore(fresh).close()
    script = resources.files(control).joinpath("schema.sql").read_text()
    with sqlite3.connect(old) as database:
        database.executescript(script)
        database.executescript("INSERT INTO meta VALUES ('schema_version', '1');")
        database.execute("INSERT INTO devices (id, first_seen, last_seen) VALUES ('d', 1, 2)")
    for _ in range(2):
        store = SqliteStore(old)
        assert [device.id for device in store.devices()] == ["d"]
        assert store.jobs() == []
        store.close()
    assert schema(old) == schema(fresh)


@pytest.mark.parametrize("version", [str(SCHEMA_VERSION + 1), "0", "x"])
def test_a_registry_of_another_schema_is_left_as_it_is(tmp_path: Path, version: str) -> None:
    path = tmp_path / "controller.sqlite"
    SqliteStore(path).close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE meta SET value = ?", (version,))
    before = schema(path)
    with pytest.raises(FleetError, match="has schema"):
        SqliteStore(path)
    assert schema(path) == before


def test_the_list_of_jobs_is_json(made: Bench) -> None:
    job = ask(made)
    answer = json.loads(made.controller.foreman.list_for("d0"))
    assert set(answer) == {"jobs", "awaited"}
    assert answer["jobs"][0]["signed"]["id"] == job.id
