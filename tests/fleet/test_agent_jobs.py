"""Jobs on a device of the simulated fleet: once each, between updates, never lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agent_bench import Bench
from agent_sim import NOW, Simulator, cut_off, variant

from edgeward.fleet.agent.jobs import desk
from edgeward.fleet.protocol.documents import Outcome, State
from edgeward.fleet.protocol.jobs import JobReport, JobState, pack


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


class VanishedError(BaseException):
    """The agent's process is gone from one instruction to the next."""


def begun(bench: Bench) -> list[str]:
    """Return the ids of the jobs that were begun, in their order."""
    log = bench.folder / "jobs.log"
    return [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []


def reports(bench: Bench) -> list[JobReport]:
    return bench.link.results


def kept(bench: Bench) -> list[str]:
    return sorted(path.name for path in (bench.home.jobs / "reports").iterdir())


def done(bench: Bench, count: int = 1) -> Callable[[], bool]:
    return lambda: len(reports(bench)) >= count


def while_it_runs(bench: Bench, then: Callable[[], None]) -> None:
    """Let something happen once the job's child has begun, by the agent's own pumping."""
    agent, before = bench.agent, len(begun(bench))
    assert agent is not None
    pump = bench.link.pump

    def pumping(seconds: float) -> None:
        pump(seconds)
        if len(begun(bench)) > before:
            bench.link.pump = pump  # type: ignore[method-assign]
            then()

    bench.link.pump = pumping  # type: ignore[method-assign]


def test_a_job_is_done_once_and_its_report_kept_until_it_is_known(bench: Bench) -> None:
    good = bench.install("fine", 1)
    bench.sim.ask("j-1")
    assert bench.until(done(bench))
    (report, *_) = reports(bench)
    assert (report.job, report.state, report.problem) == ("j-1", JobState.DONE, None)
    assert report.result == {"serving": good, "target": "kiosk-x86"}
    bench.rest(50)
    assert begun(bench) == ["j-1"]
    assert kept(bench) == ["j-1"]
    assert len(reports(bench)) > 1, "a report that is still awaited is sent again"
    bench.sim.await_no("j-1")
    assert bench.until(lambda: kept(bench) == [])
    sent = len(reports(bench))
    bench.rest(50)
    assert len(reports(bench)) == sent
    bench.sim.ask("j-1")
    bench.rest(50)
    assert begun(bench) == ["j-1"], "a job that comes again is not done again"


def test_jobs_are_done_in_their_order_and_after_a_restart_none_twice(bench: Bench) -> None:
    bench.boot()
    for number in range(3):
        bench.sim.ask(f"j-{number}")
    assert bench.until(lambda: len(begun(bench)) == 2)
    bench.crash()
    bench.boot()
    assert bench.until(lambda: kept(bench) == ["j-0", "j-1", "j-2"])
    bench.rest(20)
    assert begun(bench) == ["j-0", "j-1", "j-2"]


def ask_with_a_stranger(sim: Simulator) -> None:
    sim.ask("j-1", key=Simulator().controller_key)


def ask_another(sim: Simulator) -> None:
    sim.ask("j-1", device="kiosk-2")


def ask_too_late(sim: Simulator) -> None:
    sim.ask("j-1", expires_at=NOW - 1)


def answer_nonsense(sim: Simulator) -> None:
    sim.documents["/v1/devices/kiosk-1/jobs"] = b'{"jobs": 5}'


def sign_something_else(sim: Simulator) -> None:
    sim.desire(None)
    envelope = sim.documents["/v1/devices/kiosk-1/desired"]
    sim.documents["/v1/devices/kiosk-1/jobs"] = pack([envelope], ["j-1"])


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (ask_with_a_stranger, "No trusted key"),
        (ask_another, "another device's: kiosk-2"),
        (ask_too_late, None),
        (answer_nonsense, "list of jobs"),
        (sign_something_else, "Expected a job document"),
    ],
)
def test_what_is_not_to_be_trusted_is_not_done(
    bench: Bench, ask: Callable[[Simulator], None], words: str | None
) -> None:
    bench.boot()
    ask(bench.sim)
    bench.rest(20)
    assert begun(bench) == []
    assert reports(bench) == []
    problem = bench.link.reports[-1].problem
    assert words in f"{problem.what} {problem.why}" if words and problem else problem is None
    bench.sim.jobs.clear()
    bench.sim.ask("j-2")
    assert bench.until(done(bench)), "a bad job does not stand in a good one's way"
    bench.rest(5)
    assert bench.link.reports[-1].problem is None


def test_a_dead_clock_does_not_revive_an_expired_job(bench: Bench) -> None:
    bench.boot()
    bench.sim.ask("j-1", issued_at=NOW + 5000.0, expires_at=NOW + 9000.0)
    assert bench.until(done(bench))
    bench.clock.wall = 0.0
    bench.sim.await_no("j-1")
    bench.sim.ask("j-2", issued_at=NOW, expires_at=NOW + 4000.0)
    bench.rest(20)
    assert begun(bench) == ["j-1"]


def test_a_job_that_expired_while_it_waited_is_not_begun(bench: Bench) -> None:
    bench.boot()
    assert bench.agent is not None
    bench.sim.ask("j-1", expires_at=NOW + 60.0)
    bench.agent._job_at = float("inf")
    bench.rest(5)
    assert bench.agent.jobs.due(NOW)
    bench.clock.sleep(120.0)
    bench.agent._job_at = 0.0
    bench.rest(5)
    assert begun(bench) == []


def test_a_job_that_expires_while_it_runs_is_finished(bench: Bench) -> None:
    bench.boot()
    bench.sim.ask("j-1", arguments={"behave": "slow"}, timeout_seconds=9000.0)

    def expire() -> None:
        bench.clock.sleep(5000.0)

    while_it_runs(bench, expire)
    assert bench.until(done(bench))
    assert (begun(bench), reports(bench)[0].state) == (["j-1"], JobState.DONE)


def test_an_update_breaks_a_job_off_and_it_is_done_afterwards(bench: Bench) -> None:
    bench.install("one", 1)
    second = bench.bundle("two")
    bench.sim.ask("j-1", arguments={"behave": "hang-first"})

    def update() -> None:
        bench.sim.desire(bench.sim.release(2, variant(second)))
        bench.link.hint = True

    while_it_runs(bench, update)
    assert bench.until(lambda: bench.active() == second.digest)
    assert not is_alive(*pids(bench))
    assert reports(bench) == []
    assert bench.until(done(bench))
    assert begun(bench) == ["j-1", "j-1"]
    assert reports(bench)[0].result["serving"] == second.digest


def pids(bench: Bench) -> list[int]:
    return [int(line.split()[1]) for line in (bench.folder / "jobs.log").read_text().splitlines()]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_no_job_begins_while_an_update_is_in_flight(bench: Bench) -> None:
    """Nor where its document expires meanwhile: what was begun is ended."""
    bench.install("one", 1)
    bench.sim.desire(
        bench.sim.release(2, variant(bench.bundle("two"))),
        policy={"soak_seconds": 10.0},
        expires_at=bench.clock.wall + 3.0,
    )
    bench.sim.ask("j-1")
    seen = []
    agent = bench.agent
    assert agent is not None
    while not reports(bench):
        agent.step(agent.pause())
        seen.append((agent.memory.state, len(begun(bench))))
    assert State.SOAK in {state for state, _ in seen}
    assert {count for state, count in seen if state is not State.IDLE} == {0}
    assert begun(bench) == ["j-1"]
    assert agent.memory.outcome is Outcome.COMMITTED


def test_an_update_that_may_not_begin_yet_disturbs_no_job(bench: Bench) -> None:
    bench.boot()
    release = bench.sim.release(1, variant(bench.bundle("one")))
    bench.sim.desire(release, not_before=NOW + 10_000.0)
    bench.sim.ask("j-1", arguments={"behave": "slow"}, timeout_seconds=9000.0)
    while_it_runs(bench, lambda: bench.clock.sleep(100.0))
    assert bench.until(done(bench))
    assert begun(bench) == ["j-1"]


def test_a_stop_ends_the_child_and_the_job_is_done_after_it(bench: Bench) -> None:
    agent = bench.boot()
    bench.sim.ask("j-1", arguments={"behave": "hang"})
    for _ in range(desk.MAX_ATTEMPTS + 2):
        agent = bench.agent or bench.boot()
        while_it_runs(bench, lambda: setattr(bench.agent, "stopping", True))
        assert agent.run_until(lambda a: a.stopping, 200)
        assert not is_alive(pids(bench)[-1])
        agent.close()
        bench.agent = None
    bench.boot()
    assert bench.agent is not None
    assert bench.agent.jobs._ledger.jobs.waiting[0].attempts == 0, "an orderly stop is no attempt"


def test_a_death_in_the_middle_loses_nothing_and_three_give_it_up(bench: Bench) -> None:
    bench.boot()
    bench.sim.ask("j-1", arguments={"behave": "hang"})
    bench.sim.ask("j-2")
    for number in range(desk.MAX_ATTEMPTS):
        agent = bench.agent or bench.boot()

        def vanish() -> None:
            raise VanishedError

        while_it_runs(bench, vanish)
        with pytest.raises(VanishedError):
            agent.run_until(lambda _: False, 200)
        assert len(begun(bench)) == number + 1
        bench.crash()
    bench.sim.fault = cut_off
    bench.boot()
    assert bench.until(lambda: kept(bench) == ["j-1", "j-2"]), "it knows its jobs without network"
    bench.sim.fault = None
    assert bench.until(done(bench, 2))
    found = {report.job: report for report in reports(bench)}
    assert found["j-1"].state is JobState.FAILED
    assert "begun 3 times" in str(found["j-1"].problem)
    assert found["j-2"].state is JobState.DONE


def test_a_death_between_the_report_and_the_journal_does_nothing_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = bench.boot()
    bench.sim.ask("j-1")
    ledger = agent.jobs._ledger
    keep = ledger.keep

    def vanishing(jobs: Any) -> None:
        if jobs.done:
            raise VanishedError
        keep(jobs)

    monkeypatch.setattr(ledger, "keep", vanishing)
    with pytest.raises(VanishedError):
        agent.run_until(lambda _: False, 200)
    bench.crash()
    bench.boot()
    assert bench.until(done(bench))
    bench.rest(20)
    assert begun(bench) == ["j-1"]


def test_a_report_waits_for_the_line(bench: Bench) -> None:
    bench.boot()
    bench.sim.ask("j-1")
    bench.link.connected = False
    assert bench.until(lambda: kept(bench) == ["j-1"])
    bench.rest(20)
    assert reports(bench) == []
    bench.crash()
    bench.boot()
    assert bench.until(done(bench))
    assert reports(bench)[0].job == "j-1"


def test_a_job_that_nobody_wants_any_more_is_broken_off(bench: Bench) -> None:
    bench.boot()
    bench.sim.ask("j-1", arguments={"behave": "hang"})

    def forget() -> None:
        bench.sim.await_no("j-1")
        bench.link.hint = True

    while_it_runs(bench, forget)
    agent = bench.agent
    assert agent is not None
    assert bench.until(lambda: bool(begun(bench)) and not agent.jobs.due(NOW))
    assert not is_alive(*pids(bench))
    assert reports(bench) == []


@pytest.mark.parametrize(
    ("behave", "words"),
    [
        ("crash", "died of signal 11"),
        ("words", "not JSON"),
        ("error", "cannot even begin"),
        ("big", "too large"),
        ("hang", "did not end within 2 seconds"),
    ],
)
def test_a_job_that_fails_says_how(bench: Bench, behave: str, words: str) -> None:
    bench.boot()
    bench.sim.ask("j-1", arguments={"behave": behave}, timeout_seconds=2.0)
    while_it_runs(bench, lambda: bench.clock.sleep(3.0 if behave == "hang" else 0.0))
    assert bench.until(done(bench))
    report = reports(bench)[0]
    assert report.state is JobState.FAILED
    assert report.problem is not None
    assert words in f"{report.problem.what} {report.problem.why}"
    assert report.result == {}


def test_a_full_disk_is_told_and_the_job_waits(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = bench.boot()

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(agent.jobs._ledger, "file", refuse)
        bench.sim.ask("j-1")
        assert bench.until(lambda: begun(bench) == ["j-1"])
        bench.rest(3)
        problem = bench.link.reports[-1].problem
        assert problem is not None
        assert "No space left" in problem.why
    assert bench.until(done(bench))
    assert reports(bench)[0].state is JobState.DONE


def test_a_controller_that_knows_no_jobs_is_no_trouble(bench: Bench) -> None:
    bench.boot()
    bench.rest(10)
    assert "/v1/devices/kiosk-1/jobs" in bench.sim.requests
    assert bench.link.reports[-1].problem is None


def test_the_server_is_kept_alive_meanwhile(bench: Bench) -> None:
    good = bench.install("fine", 1)
    bench.sim.ask("j-1", arguments={"behave": "hang"}, timeout_seconds=100.0)

    def die_and_let_time_pass() -> None:
        bench.server.alive = False
        bench.link.pump = lambda _: bench.clock.sleep(5.0)  # type: ignore[method-assign]

    while_it_runs(bench, die_and_let_time_pass)
    assert bench.until(done(bench))
    assert "did not end within" in str(reports(bench)[0].problem)
    assert bench.server.started == [good, good]
    assert bench.server.alive
