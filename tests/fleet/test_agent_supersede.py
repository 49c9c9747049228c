"""The whole agent in a simulated fleet: documents that come while others are under way."""

from __future__ import annotations

from pathlib import Path

import pytest
from agent_bench import ORDER, Bench
from agent_sim import NOW, variant

from edgeward.fleet.protocol.documents import Outcome, State


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize("state", ORDER[:-1])
def test_a_newer_document_supersedes_in_every_state(bench: Bench, state: str) -> None:
    bench.install("fine", 1)
    bench.sim.desire(bench.sim.release(2, variant(bench.bundle("second"))))
    agent = bench.agent
    assert agent is not None
    assert agent.run_until(lambda a: a.memory.state.value == state)
    third = bench.bundle("third")
    bench.sim.desire(bench.sim.release(3, variant(third)))
    bench.link.hint = True
    bench.settle()
    assert bench.active() == third.digest
    assert agent.memory.quarantine == []
    assert agent.memory.outcome is Outcome.COMMITTED


@pytest.mark.parametrize("state", ["download", "gate", "soak"])
def test_back_to_the_good_release_in_the_midst_of_an_update(bench: Bench, state: str) -> None:
    bundle = bench.bundle("fine")
    ref = bench.sim.release(1, variant(bundle))
    bench.sim.desire(ref)
    agent = bench.settle()
    bench.sim.desire(bench.sim.release(2, variant(bench.bundle("second"))))
    assert agent.run_until(lambda a: a.memory.state.value == state)
    bench.sim.desire(ref)
    bench.link.hint = True
    bench.settle()
    agent.step()
    assert (bench.active(), bench.server.digest) == (bundle.digest, bundle.digest)
    assert agent.memory.outcome is Outcome.COMMITTED


def test_nothing_desired_ends_an_update_and_keeps_what_runs(bench: Bench) -> None:
    good = bench.install("fine", 1)
    bench.sim.desire(bench.sim.release(2, variant(bench.bundle("second"))))
    agent = bench.agent
    assert agent is not None
    assert agent.run_until(lambda a: a.memory.state is State.SOAK)
    bench.sim.desire(None)
    bench.link.hint = True
    bench.settle()
    agent.step()
    assert (bench.active(), bench.server.digest) == (good, good)


def test_a_higher_generation_is_an_order_to_try_again(bench: Bench) -> None:
    bench.device.heat = 99.0
    ref = bench.sim.release(1, variant(bench.bundle("fine"), needs_memory_bytes=2**40))
    bench.sim.desire(ref, rollout="r-1")
    agent = bench.settle()
    assert agent.memory.outcome is Outcome.REFUSED
    bench.device.memory_bytes, bench.device.heat = 2**41, 40.0
    bench.sim.desire(ref, rollout="r-1")
    bench.settle()
    assert agent.memory.outcome is Outcome.COMMITTED


def test_a_renewed_document_of_the_same_generation_tries_nothing_again(bench: Bench) -> None:
    ref = bench.sim.release(1, variant(bench.bundle("gate-bad")))
    bench.sim.desire(ref, rollout="r-1")
    agent = bench.settle()
    asked = bench.sim.requests.count(f"/v1/releases/{ref.digest}")
    bench.sim.generation -= 1
    bench.sim.desire(ref, rollout="r-1", issued_at=NOW + 50.0, expires_at=NOW + 1e6)
    assert bench.until(lambda: agent.memory.time == NOW + 50.0)
    bench.rest(20)
    assert bench.sim.requests.count(f"/v1/releases/{ref.digest}") == asked
    assert agent.memory.outcome is Outcome.REFUSED
