"""The whole agent in a simulated fleet: updates that go well, and each way in which they do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agent_bench import ORDER, Bench, idle
from agent_sim import NOW, FakeClock, cut_off, variant

from edgeward.fleet.agent.device import GateLimits
from edgeward.fleet.protocol.documents import Outcome, State
from edgeward.fleet.trust.keys import generate


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def states(bench: Bench) -> list[str]:
    seen: list[str] = []
    for report in bench.link.reports:
        if not seen or seen[-1] != report.state.value:
            seen.append(report.state.value)
    return seen


def test_a_first_release_is_installed_in_the_documented_order(bench: Bench) -> None:
    digest = bench.install("one", 1)
    agent = bench.settle()
    assert bench.active() == digest
    assert states(bench)[-10:] == ORDER
    last = bench.link.reports[-1]
    assert (last.outcome, last.active, last.last_known_good) == (
        Outcome.COMMITTED,
        digest,
        digest,
    )
    assert last.gate is not None
    assert {f.metric for f in last.gate.figures} >= {"cosine", "temperature_c"}
    assert agent.memory.floors == {"kiosk": 1}
    assert bench.server.digest == digest
    assert bench.server.asked, "the soak has to ask"


def test_an_update_keeps_the_former_bundle_for_a_rollback_without_download(bench: Bench) -> None:
    first = bench.install("one", 1)
    second = bench.install("two", 2)
    assert bench.active() == second
    assert bench.agent is not None
    assert bench.agent.memory.previous is not None
    assert bench.agent.memory.previous.bundle == first
    before = [path for path in bench.sim.requests if "/blobs/" in path]
    old = bench.sim.release(1, variant(bench.bundle("one")))
    bench.sim.desire(old, permit=bench.sim.permit(1))
    bench.settle()
    assert bench.active() == first
    assert [path for path in bench.sim.requests if "/blobs/" in path] == before


def test_bundles_that_nobody_needs_are_collected(bench: Bench) -> None:
    digests = [bench.install(f"text {n}", n) for n in range(1, 5)]
    left = {path.name for path in bench.home.bundles.iterdir()}
    assert left == set(digests[-2:])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gate-bad", "cosine 0.4"),
        ("gate-crash", "signal 11"),
        ("gate-error", "the engine said no"),
        ("gate-words", "not JSON"),
        ("gate-nan", "not a JSON number"),
        ("gate-flood", "not JSON"),
    ],
)
def test_a_bundle_that_fails_its_gate_is_never_active(bench: Bench, text: str, words: str) -> None:
    good = bench.install("fine", 1)
    bad = bench.install(text, 2)
    assert bench.active() == good
    assert bench.server.digest == good
    last = bench.link.reports[-1]
    assert last.outcome is Outcome.REFUSED
    assert last.problem is not None
    assert words in last.problem.why
    assert last.quarantined == [bad]
    assert bad not in bench.server.started


def test_a_gate_that_is_too_hot_too_big_or_too_slow_refuses(bench: Bench) -> None:
    bench.device.gate = GateLimits(max_latency_ms=1.5, max_memory_bytes=2**30)
    bench.install("slow", 1)
    assert "latency_ms_p95 2" in str(bench.link.reports[-1].problem)
    bench.device.gate, bench.device.heat = GateLimits(max_temperature_c=80.0), 95.0
    bench.install("hot", 2)
    assert "temperature_c 95" in str(bench.link.reports[-1].problem)
    assert bench.active() is None


@pytest.mark.parametrize(
    "text", ["wont-start", "never-ready", "wrong-health", "no-health", "dies-later", "wont-answer"]
)
def test_a_bundle_that_fails_in_service_is_rolled_back(bench: Bench, text: str) -> None:
    good = bench.install("fine", 1)
    bad = bench.install(text, 2)
    assert bench.active() == good
    assert bench.agent is not None
    bench.agent.step()
    assert bench.server.digest == good
    last = bench.link.reports[-1]
    assert (last.outcome, last.quarantined) == (Outcome.ROLLED_BACK, [bad])
    assert bench.agent.memory.floors == {"kiosk": 1}


def test_errors_in_the_statistics_roll_back(bench: Bench) -> None:
    good = bench.install("fine", 1)
    bad = bench.bundle("looks fine")
    bench.sim.desire(bench.sim.release(2, variant(bad)), policy={"soak_seconds": 60.0})
    agent = bench.agent
    assert agent is not None
    assert agent.run_until(lambda a: a.memory.state is State.SOAK)
    agent.step(0.1)
    delta: dict[str, Any] = {"bundle": bad.digest, "requests": 100, "errors": {"EngineError": 9}}
    bench.spool.append({**delta, "started_at": NOW, "ended_at": NOW + 1})
    bench.settle()
    assert bench.active() == good
    assert "9 of 100" in str(bench.link.reports[-1].problem)


def test_callers_mistakes_do_not_roll_back(bench: Bench) -> None:
    bundle = bench.bundle("fine")
    bench.sim.desire(bench.sim.release(1, variant(bundle)), policy={"soak_seconds": 20.0})
    agent = bench.boot()
    assert agent.run_until(lambda a: a.memory.state is State.SOAK)
    agent.step(0.1)
    delta: dict[str, Any] = {"bundle": bundle.digest, "requests": 100, "errors": {"UsageError": 90}}
    bench.spool.append({**delta, "started_at": NOW, "ended_at": NOW + 1})
    bench.settle()
    assert bench.active() == bundle.digest


def test_a_first_bundle_that_fails_leaves_nothing_active(bench: Bench) -> None:
    bench.install("wont-answer", 1)
    assert not bench.home.active.is_symlink()
    assert bench.server.digest is None


def test_a_quarantined_bundle_is_not_tried_again_under_another_generation(bench: Bench) -> None:
    bench.install("fine", 1)
    bad = bench.install("wont-answer", 2)
    started = bench.server.started.count(bad)
    bench.install("wont-answer", 3)
    assert bench.server.started.count(bad) == started
    assert "quarantine" in str(bench.link.reports[-1].problem)
    good = bench.install("other", 4)
    assert bench.active() == good


def test_a_downgrade_needs_a_permit(bench: Bench) -> None:
    high = bench.install("five", 5)
    bench.install("three", 3)
    assert bench.active() == high
    assert "needs a permit" in str(bench.link.reports[-1].problem)
    forged = {**bench.sim.permit(3), "signatures": []}
    for permit in (
        bench.sim.permit(4),
        bench.sim.permit(3, device="another"),
        bench.sim.permit(3, expires_in=-1.0),
        forged,
    ):
        bench.install("three", 3, permit=permit)
        assert bench.active() == high
    low = bench.install("three", 3, permit=bench.sim.permit(3, device="kiosk-1"))
    assert bench.active() == low


def test_a_replayed_generation_changes_nothing_and_is_reported(bench: Bench) -> None:
    bench.install("one", 1)
    old = bench.sim.documents["/v1/devices/kiosk-1/desired"]
    second = bench.install("two", 2)
    bench.sim.documents["/v1/devices/kiosk-1/desired"] = old
    assert bench.agent is not None
    bench.until(lambda: "replay" in str(bench.link.reports[-1].problem), 50)
    assert "replay" in str(bench.link.reports[-1].problem)
    assert bench.active() == second
    bench.crash()
    bench.boot()
    bench.rest(10)
    assert bench.active() == second


@pytest.mark.parametrize("how", ["addressee", "key", "release-key", "garbage"])
def test_a_document_that_is_not_for_us_is_refused(bench: Bench, tmp_path: Path, how: str) -> None:
    good = bench.install("fine", 1)
    stranger = generate(tmp_path / "stranger")
    bundle = variant(bench.bundle("evil"))
    if how == "addressee":
        bench.sim.desire(bench.sim.release(2, bundle), addressee="kiosk-2")
    elif how == "key":
        bench.sim.desire(bench.sim.release(2, bundle), key=stranger)
    elif how == "release-key":
        bench.sim.desire(bench.sim.release(2, bundle, key=stranger))
    else:
        bench.sim.documents["/v1/devices/kiosk-1/desired"] = b"\x00\xff<html>"
    assert bench.agent is not None
    bench.agent.run_until(lambda a: bench.link.reports[-1].problem is not None and idle(a), 80)
    problem = bench.link.reports[-1].problem
    assert problem is not None
    assert problem.error == "TrustError"
    assert bench.active() == good


def test_another_release_or_manifest_than_the_one_named_is_refused(bench: Bench) -> None:
    good = bench.install("fine", 1)
    other = bench.bundle("other")
    ref, decoy = (bench.sim.release(n, variant(other)) for n in (2, 3))
    bench.sim.documents[f"/v1/releases/{ref.digest}"] = bench.sim.documents[
        f"/v1/releases/{decoy.digest}"
    ]
    bench.sim.desire(ref)
    bench.settle()
    assert "another release" in str(bench.link.reports[-1].problem)
    mixed = bench.bundle("mixed")
    path = f"/v1/manifests/{mixed.digest}"
    bench.sim.documents[path] = bench.sim.documents[f"/v1/manifests/{other.digest}"]
    bench.sim.desire(bench.sim.release(4, variant(mixed)))
    bench.settle()
    assert "another manifest" in str(bench.link.reports[-1].problem)
    bench.sim.desire(bench.sim.release(5, variant(other, precision="int8-dynamic")))
    bench.settle()
    assert "not what the release says" in str(bench.link.reports[-1].problem)
    assert bench.active() == good


def test_expired_means_keep_running_and_say_so(bench: Bench) -> None:
    good = bench.install("fine", 1)
    ref = bench.sim.release(2, variant(bench.bundle("late")))
    bench.sim.desire(ref, expires_at=NOW - 10.0)
    assert bench.agent is not None
    bench.until(lambda: bench.link.reports[-1].problem is not None, 50)
    assert "expired" in str(bench.link.reports[-1].problem)
    assert (bench.active(), bench.server.digest) == (good, good)
    bench.sim.desire(ref)
    bench.settle()
    assert bench.active() != good


def test_a_clock_at_1970_does_not_brick(bench: Bench) -> None:
    bench.clock = FakeClock(0.0)
    digest = bench.install("fine", 1)
    assert bench.active() == digest
    bench.install("late", 2, expires_at=NOW + 1.0, issued_at=NOW)
    assert bench.agent is not None
    assert bench.agent.work.now >= NOW


def test_a_clock_far_ahead_is_passed_over(bench: Bench) -> None:
    bench.clock = FakeClock(NOW + 50 * 365 * 86_400.0)
    assert bench.install("fine", 1) == bench.active()


def test_not_before_is_waited_for(bench: Bench) -> None:
    bundle = bench.bundle("fine")
    bench.sim.desire(bench.sim.release(1, variant(bundle)), not_before=NOW + 100.0)
    agent = bench.boot()
    bench.until(lambda: bench.clock.wall > NOW + 90, 500)
    assert agent.memory.state is State.IDLE
    bench.settle()
    assert bench.active() == bundle.digest


def test_no_variant_fits_in_words(bench: Bench) -> None:
    jetson = variant(bench.bundle("x", "jetson-orin-nano"))
    big = variant(bench.bundle("y"), needs_memory_bytes=2**40)
    bench.sim.desire(bench.sim.release(1, jetson, big))
    bench.boot()
    bench.settle()
    problem = bench.link.reports[-1].problem
    assert problem is not None
    assert "jetson-orin-nano: this is a kiosk-x86" in problem.why
    assert "it needs 1099511627776 bytes" in problem.why


def test_a_degraded_variant_needs_a_policy_that_allows_it(bench: Bench) -> None:
    bundle = bench.bundle("so so")
    ref = bench.sim.release(1, variant(bundle, degraded=True))
    bench.sim.desire(ref)
    bench.settle()
    assert bench.active() is None
    bench.sim.desire(ref, policy={"allow_degraded": True})
    bench.settle()
    assert bench.active() == bundle.digest


def test_a_full_disk_fails_for_now_and_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = bench.bundle("fine")
    bench.sim.desire(bench.sim.release(1, variant(bundle)))
    agent = bench.boot()
    with monkeypatch.context() as full:
        full.setattr(type(agent.store), "free_bytes", lambda _: 1000)
        assert agent.run_until(lambda a: a.memory.failures > 1, 500)
        assert "has not room" in str(agent.memory.problem)
        assert agent.memory.quarantine == []
    bench.settle()
    assert bench.active() == bundle.digest


def test_no_network_at_start_serves_the_last_known_good(bench: Bench) -> None:
    good = bench.install("fine", 1)
    bench.crash()
    bench.sim.fault = cut_off
    bench.boot()
    bench.rest(5)
    assert (bench.active(), bench.server.digest) == (good, good)


def test_the_network_goes_while_downloading_and_comes_back(bench: Bench) -> None:
    bundle = bench.bundle("fine")
    bench.sim.desire(bench.sim.release(1, variant(bundle)))
    agent = bench.boot()
    assert agent.run_until(lambda a: a.memory.state is State.DOWNLOAD)
    bench.sim.fault = cut_off
    assert agent.run_until(lambda a: a.memory.failures > 0)
    assert agent.memory.outcome is Outcome.FAILED
    bench.sim.fault = None
    bench.settle()
    assert (bench.active(), agent.memory.failures) == (bundle.digest, 0)


def test_statistics_leave_the_spool_once_they_were_sent(bench: Bench) -> None:
    digest = bench.install("fine", 1)
    agent = bench.agent
    assert agent is not None
    bench.link.connected = False
    for number in range(30):
        delta = {"bundle": digest, "started_at": NOW, "ended_at": NOW, "requests": number}
        bench.spool.append(delta)
    bench.spool.append({"bundle": "junk"})
    bench.rest(5)
    assert (len(bench.spool.rows), bench.link.stats) == (31, [])
    bench.link.connected = True
    assert bench.until(lambda: not bench.spool.rows, 50)
    assert len(bench.link.stats) == 30
