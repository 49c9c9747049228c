"""A bundle whose engine the device builds: before the gate, in a child, and kept."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from agent_bench import ORDER, Bench
from agent_sim import FakeServer, variant
from simulated_device import builds, make_built_bundle, simulated_device

from edgeward.fleet.agent.clock import SystemClock
from edgeward.fleet.agent.machine import UNFINISHED_LIMIT
from edgeward.fleet.agent.service import COMMANDS
from edgeward.fleet.protocol.documents import Outcome, State
from edgeward.runtimes.finalize.hardware import find_gpu


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def states(bench: Bench) -> list[str]:
    told = [report.state.value for report in bench.link.reports]
    return [state for state, before in zip(told, ["", *told], strict=False) if state != before]


def built(bench: Bench) -> list[str]:
    """The bundles that were built, in order."""
    log = bench.home.root / "builds.log"
    return log.read_text().split() if log.exists() else []


def test_the_engine_is_built_before_the_gate(bench: Bench) -> None:
    digest = bench.install("build", 1)
    before = ORDER.index("gate")
    assert states(bench)[-11:] == [*ORDER[:before], "finalize", *ORDER[before:]]
    assert built(bench) == [digest]
    assert bench.active() == digest
    assert [path.name for path in bench.home.engines.iterdir()] == [digest]


def test_a_bundle_that_needs_none_has_no_such_state(bench: Bench) -> None:
    bench.install("fine", 1)
    assert states(bench)[-10:] == ORDER
    assert built(bench) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("build-refused", "the builder said no"),
        ("build-short", "the builder said no"),
        ("build-missing", "the builder said no"),
        ("build-crash", "died of signal 6"),
        ("build-hang", "did not end within"),
    ],
)
def test_a_build_that_fails_refuses_the_bundle(bench: Bench, text: str, words: str) -> None:
    good = bench.install("fine", 1)
    if text == "build-hang":
        bench.settings["build_seconds"] = 5.0
        bench.crash()
        bench.boot()
        bench.clock.monotonic = lambda: time.monotonic() * 100  # type: ignore[method-assign]
    bad = bench.install(text, 2)
    last = bench.link.reports[-1]
    assert last.outcome is Outcome.REFUSED
    assert words in str(last.problem)
    assert (bench.active(), bench.server.digest) == (good, good)
    assert bench.agent is not None
    assert bench.agent.memory.quarantine == [bad]
    assert bad not in bench.server.started


def test_a_disk_without_room_is_tried_again(bench: Bench) -> None:
    bundle = bench.bundle("build-full")
    bench.sim.desire(bench.sim.release(1, variant(bundle)))
    agent = bench.boot()
    assert agent.run_until(lambda a: a.memory.failures > 0)
    assert "no room" in str(agent.memory.problem)
    (bench.home.root / "room").touch()
    bench.settle()
    assert bench.active() == bundle.digest
    assert agent.memory.quarantine == []


def test_a_crash_while_building_begins_there_again(bench: Bench) -> None:
    good = bench.install("fine", 1)
    bundle = bench.bundle("build")
    bench.sim.desire(bench.sim.release(2, variant(bundle)))
    agent = bench.agent
    assert agent is not None
    assert agent.run_until(lambda a: a.memory.state is State.FINALIZE)
    bench.crash()
    assert bench.boot().memory.state is State.FINALIZE
    bench.settle()
    assert bench.active() == bundle.digest != good


def test_a_build_that_takes_the_device_down_is_given_up(bench: Bench) -> None:
    good = bench.install("fine", 1)
    bundle = bench.bundle("build")
    bench.sim.desire(bench.sim.release(2, variant(bundle)))
    for _ in range(UNFINISHED_LIMIT[State.FINALIZE]):
        agent = bench.agent or bench.boot()
        assert agent.run_until(lambda a: a.memory.state is State.FINALIZE)
        bench.crash()
    agent = bench.boot()
    bench.settle()
    assert bench.active() == good
    assert agent.memory.quarantine == [bundle.digest]
    assert agent.memory.outcome is Outcome.REFUSED


def test_an_engine_goes_with_its_bundle(bench: Bench) -> None:
    digests = [bench.install(f"build {number}", number) for number in (1, 2, 3)]
    assert {path.name for path in bench.home.engines.iterdir()} == set(digests[1:])


class AnyServer(FakeServer):
    """A model server for whatever bundle."""

    def start(self, folder: Path, digest: str) -> None:
        self.digest, self.alive, self.port = digest, True, 8000
        self.started.append(digest)


@pytest.mark.skipif(find_gpu() is not None, reason="this machine's own GPU would answer")
@pytest.mark.parametrize("python", [True, False])
def test_the_real_commands_build_with_tensorrt_and_gate_what_they_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: bool
) -> None:
    device = simulated_device(tmp_path / "device", trtexec=not python, python=python)
    for name in ("PATH", "PYTHONPATH", "FAKE_TRTEXEC_LOG"):
        monkeypatch.setenv(name, device[name])
    bench = Bench(tmp_path, server=AnyServer(), commands=COMMANDS)
    bench.clock.monotonic = SystemClock().monotonic  # type: ignore[method-assign]
    bundle = bench.sim.add(make_built_bundle(tmp_path / "made" / "tiny", target="kiosk-x86"))
    bench.sim.desire(bench.sim.release(1, variant(bundle)), policy={"soak_seconds": 0.0})
    agent = bench.settle(20_000)
    assert bench.active() == bundle.digest, agent.memory.problem
    gate = agent.memory.gate
    assert gate is not None
    assert ("tensorrt" if python else "onnxruntime") in gate.engine
    assert len(builds(tmp_path / "device")) == (0 if python else 1)
    assert list((bench.home.engines / bundle.digest).glob("*/model.plan"))
