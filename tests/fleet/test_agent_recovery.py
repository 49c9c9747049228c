"""The whole agent in a simulated fleet: damage, crashes, unfinished trials."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from agent_bench import ORDER, Bench
from agent_sim import cut_off, variant

from edgeward.fleet.protocol.documents import Outcome, State


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_server_that_dies_is_started_again(bench: Bench) -> None:
    good = bench.install("fine", 1)
    agent = bench.agent
    assert agent is not None
    for _ in range(3):
        bench.server.alive = False
        assert bench.until(lambda: bench.server.alive, 500)
    assert bench.server.digest == good


def damage(path: Path) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_damaged_active_bundle_is_repaired_from_the_controller(bench: Bench) -> None:
    good = bench.install("fine", 1)
    bench.crash()
    damage(bench.home.bundles / good / "big.bin")
    bench.boot()
    assert bench.until(lambda: bench.server.digest == good, 50)
    assert bench.active() == good


def test_a_damaged_active_bundle_falls_back_without_network(bench: Bench) -> None:
    first, second = bench.install("one", 1), bench.install("two", 2)
    bench.crash()
    damage(bench.home.bundles / second / "big.bin")
    bench.sim.fault = cut_off
    bench.boot()
    bench.rest(5)
    assert (bench.active(), bench.server.digest) == (first, first)
    bench.sim.fault = None
    assert bench.until(lambda: bench.server.digest == second, 200)
    assert bench.active() == second


def test_a_removed_active_folder_is_put_together_again(bench: Bench) -> None:
    good = bench.install("fine", 1)
    bench.crash()
    manifest = (bench.home.bundles / good / "manifest.json").read_bytes()
    (bench.home.blobs / f"{good}.manifest").write_bytes(manifest)
    shutil.rmtree(bench.home.bundles / good)
    bench.sim.fault = cut_off
    bench.boot()
    assert bench.active() == good


@pytest.mark.parametrize("state", ["activate", "soak"])
def test_a_trial_that_was_unfinished_twice_is_given_up(bench: Bench, state: str) -> None:
    good = bench.install("fine", 1)
    bad = bench.bundle("takes the device down")
    bench.sim.desire(bench.sim.release(2, variant(bad)), policy={"soak_seconds": 60.0})
    for _ in range(2):
        agent = bench.agent or bench.boot()
        assert agent.run_until(lambda a: a.memory.state.value == state)
        bench.crash()
    bench.boot()
    bench.settle()
    assert bench.active() == good
    assert bench.agent is not None
    assert bench.agent.memory.quarantine == [bad.digest]
    assert bench.agent.memory.outcome is Outcome.ROLLED_BACK


def test_orderly_restarts_do_not_count_against_a_soak(bench: Bench) -> None:
    bundle = bench.bundle("fine")
    bench.sim.desire(bench.sim.release(1, variant(bundle)), policy={"soak_seconds": 60.0})
    for _ in range(4):
        agent = bench.boot()
        assert agent.run_until(lambda a: a.memory.state is State.SOAK)
        agent.step(0.1)
        agent.close()
    bench.boot()
    bench.settle()
    assert bench.active() == bundle.digest


@pytest.mark.parametrize("state", ORDER[:-1])
def test_a_crash_in_every_state_ends_in_the_desired_bundle(bench: Bench, state: str) -> None:
    good = bench.install("fine", 1)
    new = bench.bundle("new")
    bench.sim.desire(bench.sim.release(2, variant(new)))
    agent = bench.agent
    assert agent is not None
    assert agent.run_until(lambda a: a.memory.state.value == state)
    bench.crash()
    bench.boot()
    assert bench.active() in (good, new.digest)
    bench.settle()
    assert bench.active() == new.digest


@pytest.mark.parametrize("state", ["rollback", "quarantine"])
def test_a_crash_while_going_back_ends_in_the_good_bundle(bench: Bench, state: str) -> None:
    good = bench.install("fine", 1)
    bad = bench.bundle("wont-answer")
    bench.sim.desire(bench.sim.release(2, variant(bad)))
    agent = bench.agent
    assert agent is not None
    assert agent.run_until(lambda a: a.memory.state.value == state)
    for _ in range(3):
        bench.crash()
        bench.boot()
    bench.settle()
    assert bench.active() == good
    assert bench.agent is not None
    assert bench.agent.memory.quarantine == [bad.digest]


def test_a_lost_journal_keeps_the_active_bundle(bench: Bench) -> None:
    good = bench.install("fine", 1)
    bench.crash()
    bench.home.journal.write_bytes(b"\x00garbage\n" * 100)
    agent = bench.boot()
    assert agent.memory.good is not None
    assert (bench.active(), agent.memory.good.bundle) == (good, good)
    bench.settle()
    assert bench.active() == good
