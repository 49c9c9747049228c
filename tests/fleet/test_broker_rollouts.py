"""Rollouts over real brokers, with simulated devices; embedded and mosquitto alike."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from control_support import SimulatedDevice, make_bundle, sha, until

from edgeward.fleet.broker.mosquitto import _PLACES
from edgeward.fleet.control.client import Client
from edgeward.fleet.control.home import FleetHome
from edgeward.fleet.control.releases import create_release, publish
from edgeward.fleet.control.up import Options, Urls, fleet
from edgeward.fleet.protocol.documents import Outcome, Stats
from edgeward.fleet.protocol.topics import topic
from edgeward.fleet.protocol.wire import encode
from edgeward.fleet.trust.keys import SigningKey, generate
from edgeward.runtimes.statistics.sketch import Sketch

HAS_MOSQUITTO = shutil.which("mosquitto", path=os.pathsep.join((os.environ["PATH"], *_PLACES)))
BROKERS = [
    "embedded",
    pytest.param(
        "mosquitto",
        marks=[
            pytest.mark.mosquitto,
            pytest.mark.skipif(not HAS_MOSQUITTO, reason="mosquitto is not installed"),
        ],
    ),
]


@dataclass
class Town:
    """A fleet on one broker: it can go down and come up, its devices stay."""

    folder: Path
    broker: str
    key: SigningKey
    stack: ExitStack = field(default_factory=ExitStack)
    devices: dict[str, SimulatedDevice] = field(default_factory=dict)
    urls: Urls | None = None
    sequence: int = 0

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def client(self) -> Client:
        return Client.of_home(self.home)

    def start(self) -> None:
        options = Options(self.home, http_port=0, broker=self.broker)
        self.urls = self.stack.enter_context(fleet(options))
        FleetHome(self.home).trust_release_key(self.key.public)

    def stop(self) -> None:
        self.stack.close()

    def join(self, conduct: Outcome | None, *names: str) -> None:
        mqtt = str(self.client.trust()["mqtt"])
        for name in names:
            self.devices[name] = SimulatedDevice(name, mqtt, conduct)
        until(lambda: {d["id"] for d in self.client.devices()} >= set(names), "devices report")

    def release(self, version: str) -> None:
        self.sequence += 1
        bundle = make_bundle(self.folder / version, text=version)
        sealed = create_release("kiosk", version, [bundle], self.key, sequence=self.sequence)
        publish(sealed, self.client)

    def roll_out(self, version: str, **wishes: Any) -> str:
        request = {"model": "kiosk", "version": version, "to": "all", "soak_seconds": 0.0}
        return str(self.client.create_rollout({**request, **wishes})["id"])

    def ends(self, rollout: str) -> dict[str, Any]:
        def ended() -> dict[str, Any] | None:
            found = self.client.rollout(rollout)
            return found if found["phase"] != "running" else None

        return until(ended, f"{rollout} ends")  # type: ignore[no-any-return]

    def wave(self, rollout: str, number: int) -> list[str]:
        members = self.client.rollout(rollout)["members"]
        return [m["device"] for m in members if m["wave"] == number]

    def told(self, device: str) -> list[str]:
        seen = self.devices[device].seen
        return [s["release"]["version"] if s["release"] else "nothing" for s in seen]


@pytest.fixture(params=BROKERS)
def town(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path, request.param, generate(tmp_path / "key"))
    made.start()
    try:
        yield made
    finally:
        for device in made.devices.values():
            device.stop()
        made.stop()


def test_two_waves_complete(town: Town) -> None:
    town.join(Outcome.COMMITTED, "d0", "d1", "d2", "d3")
    town.release("1.0.0")
    rollout = town.roll_out("1.0.0")
    found = town.ends(rollout)
    assert (found["phase"], found["committed"]) == ("complete", 4)
    kinds = [e["kind"] for e in found["timeline"]]
    second = kinds.index("wave-opened", kinds.index("wave-opened") + 1)
    assert kinds[:second].count("committed") == 2
    assert {tuple(town.told(name)) for name in town.devices} == {("1.0.0",)}


def test_a_refusal_in_wave_one_keeps_wave_two_untouched_and_resume_goes_on(town: Town) -> None:
    town.join(Outcome.REFUSED, "d0", "d1")
    town.release("1.0.0")
    rollout = town.roll_out("1.0.0")
    found = town.ends(rollout)
    (first,), (second,) = town.wave(rollout, 1), town.wave(rollout, 2)
    assert (found["phase"], found["reason"]) == ("halted", f"{first} refused")
    assert [e["text"] for e in found["timeline"] if e["kind"] == "refused"] == [
        "gate: cosine 0.41 < 0.98"
    ]
    until(lambda: town.told(first) == ["1.0.0", "nothing"], "the refuser goes back")
    assert town.told(second) == []
    town.devices[second].conduct = Outcome.COMMITTED
    town.client.resume(rollout)
    found = town.ends(rollout)
    assert (found["phase"], found["committed"], found["failed"]) == ("complete", 1, 1)


def test_silence_halts_and_a_retry_completes(town: Town) -> None:
    town.join(None, "d0")
    town.release("1.0.0")
    rollout = town.roll_out("1.0.0", wave_timeout_seconds=0.5)
    found = town.ends(rollout)
    assert (found["phase"], found["reason"]) == ("halted", "d0 silent")
    until(lambda: town.told("d0") == ["1.0.0", "nothing"], "the silent one is called back")
    town.devices["d0"].conduct = Outcome.COMMITTED
    town.client.resume(rollout)
    assert town.ends(rollout)["phase"] == "complete"


def test_the_middle_of_a_rollout_survives_a_restart(town: Town) -> None:
    town.join(None, "d0", "d1")
    town.release("1.0.0")
    rollout = town.roll_out("1.0.0")
    (first,), (second,) = town.wave(rollout, 1), town.wave(rollout, 2)
    until(lambda: town.told(first) == ["1.0.0"], "wave one is told")
    before = town.urls
    town.stop()
    town.devices[first].stop()
    town.devices[second].conduct = Outcome.COMMITTED
    town.start()
    assert town.urls == before
    mqtt = str(town.client.trust()["mqtt"])
    town.devices[first] = SimulatedDevice(first, mqtt, Outcome.COMMITTED, boot=2)
    assert town.ends(rollout)["phase"] == "complete"
    assert town.told(first) == town.told(second) == ["1.0.0"]


def test_presence_and_statistics(town: Town) -> None:
    town.join(None, "d0")
    device = town.devices["d0"]
    until(lambda: town.client.device("d0")["online"], "it is online")
    sketch = Sketch()
    for value in range(1, 101):
        sketch.add(float(value))
    delta = {
        "requests": 110,
        "errors": {"EngineError": 10},
        "memory_bytes": 7,
        "sketches": {"latency_ms": sketch.to_json()},
    }
    stats = Stats(
        device="d0",
        boot=1,
        sequence=1,
        bundle=sha("b"),
        started_at=0.0,
        ended_at=1.0,
        delta=delta,
    )
    for _ in range(3):
        device.client.publish(topic("d0", "stats"), encode(stats), qos=0)
    (row,) = until(town.client.stats, "statistics arrive")
    assert (row["device"], row["requests"], row["errors"]) == ("d0", 110, 10)
    assert row["latency_p50_ms"] == pytest.approx(50, rel=0.03)
    device.client.socket().close()  # type: ignore[union-attr]  # the line breaks: a will, no goodbye
    device.client.loop_stop()
    until(lambda: not town.client.device("d0")["online"], "its will is executed")
    assert town.client.stats()[0]["requests"] == 110


def test_hostile_messages_over_the_broker(town: Town) -> None:
    town.join(None, "d0")
    line = town.devices["d0"].client
    line.publish(topic("d1", "reported"), encode(town.devices["d0"].last), qos=1)  # type: ignore[arg-type]
    line.publish(topic("d0", "stats"), b"\xff" * 1000, qos=1)
    line.publish("edgeward/v1/d/NO/reported", b"{}", qos=1)
    until(lambda: town.client.status()["messages_refused"] == 3, "all three are refused")
    assert [d["id"] for d in town.client.devices()] == ["d0"]


@pytest.mark.mosquitto
@pytest.mark.skipif(not HAS_MOSQUITTO, reason="mosquitto is not installed")
def test_a_mosquitto_that_dies_is_started_again_and_has_forgotten_nothing(tmp_path: Path) -> None:
    town = Town(tmp_path, "mosquitto", generate(tmp_path / "key"))
    town.start()
    try:
        town.join(None, "d0", "d1")
        town.release("1.0.0")
        rollout = town.roll_out("1.0.0")
        (first,) = town.wave(rollout, 1)
        until(lambda: town.told(first) == ["1.0.0"], "wave one is told")
        pid_file = town.home / "mosquitto" / "mosquitto.pid"
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGKILL)
        until(lambda: int(pid_file.read_text() or pid) != pid, "another one runs")
        for device in town.devices.values():
            device.conduct = Outcome.COMMITTED
        told = town.devices[first].seen[0]
        about = {name: told[name] for name in ("generation", "rollout")}
        town.devices[first].report(outcome=Outcome.COMMITTED, **about)
        assert town.ends(rollout)["phase"] == "complete"
    finally:
        for device in town.devices.values():
            device.stop()
        town.stop()


def spawn(home: Path, broker: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    command = [sys.executable, "-m", "edgeward", "fleet", "up", "--home", str(home)]
    process = subprocess.Popen(
        [*command, "--http-port", "0", "--broker", broker],
        stderr=subprocess.PIPE,
        text=True,
    )
    status = until(lambda: _status_of(home, process), "the fleet is up")
    return process, status


def _status_of(home: Path, process: subprocess.Popen[str]) -> dict[str, Any] | None:
    if process.poll() is not None:
        raise AssertionError(process.stderr.read() if process.stderr else "")
    try:
        status = json.loads((home / "fleet.json").read_text())
    except (OSError, ValueError):
        return None
    return status if status["pid"] == process.pid else None


def end(process: subprocess.Popen[str], how: signal.Signals) -> int:
    process.send_signal(how)
    process.communicate(timeout=30)
    return process.returncode


@pytest.mark.parametrize("broker", BROKERS)
def test_killed_and_started_again_it_goes_on(broker: str, tmp_path: Path) -> None:
    town = Town(tmp_path, broker, generate(tmp_path / "key"))
    FleetHome(town.home).trust_release_key(town.key.public)
    process, first = spawn(town.home, broker)
    undo: list[Callable[[], object]] = [lambda: end(process, signal.SIGTERM)]
    try:
        town.join(None, "d0", "d1")
        town.release("1.0.0")
        rollout = town.roll_out("1.0.0")
        (device,) = town.wave(rollout, 1)
        until(lambda: town.told(device) == ["1.0.0"], "wave one is told")
        end(process, signal.SIGKILL)
        assert (town.home / "fleet.json").exists()
        process, second = spawn(town.home, broker)
        assert {**second, "pid": 0} == {**first, "pid": 0}
        assert [r["version"] for r in town.client.releases()] == ["1.0.0"]
        assert town.client.rollout(rollout)["phase"] == "running"
        told = town.devices[device].seen[0]
        for simulated in town.devices.values():
            simulated.conduct = Outcome.COMMITTED
        about = {name: told[name] for name in ("generation", "rollout")}
        town.devices[device].report(outcome=Outcome.COMMITTED, **about)
        assert town.ends(rollout)["phase"] == "complete"
    finally:
        for simulated in town.devices.values():
            simulated.stop()
        assert undo[0]() == 0
    assert not (town.home / "fleet.json").exists()
