"""What the controller's tests share: bundles made by hand, simulated devices, a clock."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client as MqttClient
from paho.mqtt.enums import CallbackAPIVersion

from edgeward.fleet.control.controller import Controller
from edgeward.fleet.control.link import broker_address
from edgeward.fleet.control.records import ReleaseRecord
from edgeward.fleet.control.sqlite import SqliteStore
from edgeward.fleet.protocol.documents import (
    Desired,
    GateFigure,
    GateReport,
    Online,
    Outcome,
    Problem,
    Reported,
    State,
)
from edgeward.fleet.protocol.release import Release, Variant
from edgeward.fleet.protocol.topics import topic
from edgeward.fleet.protocol.wire import encode
from edgeward.fleet.trust.envelope import envelope_digest, seal, unseal
from edgeward.fleet.trust.keys import PublicKey, SigningKey, generate
from edgeward.runtimes.bundle.canonical import canonical_bytes
from edgeward.runtimes.bundle.write import writing_bundle

PATIENCE_SECONDS = 20.0


def sha(text: str) -> str:
    """Return a digest of some words."""
    return hashlib.sha256(text.encode()).hexdigest()


def make_bundle(
    folder: Path, target: str = "kiosk-x86", text: str = "weights", degraded: bool = False
) -> Path:
    """Write a small bundle that every reader accepts; its model is a text."""
    with writing_bundle(folder) as writer:
        writer.add_bytes("model.onnx", text.encode())
        writer.add_bytes("config.json", b"{}")
        value = 0.5 if degraded else 0.999
        check = {"metric": "cosine", "value": value, "bound": 0.98, "direction": "at-least"}
        writer.write_manifest(
            {
                "schema_version": "1.0",
                "name": "kiosk",
                "task": "embed",
                "entry": "model.onnx",
                "source": {"id": "kiosk", "architecture": "Bert", "weights_sha256": sha(text)},
                "target": {"name": target, "digest": sha(target)},
                "recipe": {"format": "onnx", "precision": "fp32"},
                "files": [entry.model_dump() for entry in writer.files()],
                "inputs": [],
                "outputs": [],
                "proof": {"verified": "engine", "checks": [check]},
            }
        )
    return folder


class Clock:
    """Time that moves when it is told to."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return seconds since 1970."""
        return self.now


@dataclass
class MemoryLink:
    """A broker of one dictionary: what was published, by topic."""

    sent: dict[str, bytes] = field(default_factory=dict)
    count: int = 0

    def start(
        self, on_message: Callable[[str, bytes], None], on_connect: Callable[[], None]
    ) -> None:
        """Connect at once."""
        on_connect()

    def publish(self, name: str, payload: bytes, *, retain: bool = True) -> None:
        """Keep the message."""
        self.sent[name] = payload
        self.count += 1

    def stop(self) -> None:
        """Nothing to do."""

    def desired(self, device: str, key: PublicKey) -> Desired:
        """Return what the device was told, its signature checked."""
        return unseal(self.sent[topic(device, "desired")], Desired, [key])


@dataclass
class Bench:
    """A controller without network and threads, on a real registry."""

    folder: Path
    key: SigningKey
    release_key: SigningKey
    clock: Clock
    link: MemoryLink
    store: SqliteStore
    controller: Controller
    sequences: dict[str, int] = field(default_factory=dict)

    def restart(self) -> None:
        """Begin again with nothing but the registry."""
        self.store.close()
        self.link = MemoryLink()
        self.store = SqliteStore(self.folder / "controller.sqlite")
        self.controller = Controller(self.store, self.key, self.link, self.clock)

    def add_release(self, version: str, sequence: int, bundle: str = "") -> ReleaseRecord:
        """Put a release into the registry."""
        release = make_release(version, sequence, bundle or sha(version))
        envelope = seal(release, self.release_key)
        record = ReleaseRecord(envelope_digest(envelope), release, canonical_bytes(envelope))
        self.store.add_release(record)
        return record

    def say(self, device: str, **fields: Any) -> None:
        """Let a device report, through the door that MQTT messages come in by."""
        self.sequences[device] = self.sequences.get(device, 0) + 1
        document = Reported(
            **{
                "device": device,
                "boot": 1,
                "sequence": self.sequences[device],
                "at": 0.0,
                "agent": "test",
                "generation": 0,
                "state": State.IDLE,
                **fields,
            }
        )
        self.controller.on_message(topic(device, "reported"), encode(document))
        self.work()

    def answer(self, device: str, outcome: Outcome, problem: Problem | None = None) -> None:
        """Let a device end the update that it was told."""
        desired = self.link.desired(device, self.key.public)
        self.say(
            device,
            generation=desired.generation,
            rollout=desired.rollout,
            release=desired.release,
            outcome=outcome,
            problem=problem,
        )

    def work(self) -> None:
        """Do what the worker thread would do with what has come."""
        waiting = self.controller._waiting
        batch = [waiting.get_nowait() for _ in range(waiting.qsize())]
        self.controller.step(batch)  # type: ignore[arg-type]  # the memory link queues no republish

    def wave(self, rollout: str, number: int) -> list[str]:
        """Return the devices of a wave (0 is the first)."""
        return [m.device for m in self.store.members(rollout) if m.wave == number]

    def states(self, rollout: str) -> dict[str, str]:
        """Return each member's state."""
        return {m.device: m.state.value for m in self.store.members(rollout)}


@contextmanager
def bench(folder: Path) -> Iterator[Bench]:
    """Give a controller without network, threads or waiting."""
    key, clock, link = generate(folder / "key"), Clock(), MemoryLink()
    store = SqliteStore(folder / "controller.sqlite")
    controller = Controller(store, key, link, clock)
    made = Bench(folder, key, generate(folder / "release"), clock, link, store, controller)
    yield made
    made.store.close()


def make_release(version: str, sequence: int, bundle: str) -> Release:
    """Return a release of one variant."""
    variant = Variant(
        bundle=bundle,
        target="kiosk-x86",
        target_digest=sha("kiosk-x86"),
        format="onnx",
        precision="fp32",
        size=3,
        engine="onnxruntime",
    )
    return Release(
        model="kiosk", version=version, sequence=sequence, created_at=1.0, variants=[variant]
    )


class SimulatedDevice:
    """Speaks the device's half of the protocol over a real broker.

    `conduct` says how an update ends; None means that the device never answers.
    """

    def __init__(self, name: str, broker: str, conduct: Outcome | None, boot: int = 1) -> None:
        self.name, self.conduct, self.boot = name, conduct, boot
        self.sequence = 0
        self.seen: list[dict[str, Any]] = []
        self.last: Reported | None = None
        self._lock = threading.Lock()
        address = broker_address(broker)
        self.client = MqttClient(CallbackAPIVersion.VERSION2, client_id=name)
        self.client.reconnect_delay_set(1, 1)
        will = encode(Online(device=name, boot=boot, connection=1, online=False))
        self.client.will_set(topic(name, "online"), will, qos=1, retain=True)
        self.client.on_connect = self._connected
        self.client.on_message = self._told
        self.client.connect_async(address.host, address.port, 30)
        self.client.loop_start()

    def stop(self) -> None:
        """Leave without a word, as a device that loses power."""
        self.client.disconnect()
        self.client.loop_stop()

    def report(self, **fields: Any) -> None:
        """Publish a report."""
        with self._lock:
            self.sequence += 1
            document = {
                "device": self.name,
                "boot": self.boot,
                "sequence": self.sequence,
                "at": time.time(),
                "agent": "simulated",
                "generation": 0,
                "state": State.IDLE,
                "target": "kiosk-x86",
                **fields,
            }
            self.last = Reported(**document)
        self._publish("reported", encode(self.last))

    def _connected(self, client: Any, *_: Any) -> None:
        client.subscribe(topic(self.name, "desired"), qos=1)
        birth = Online(device=self.name, boot=self.boot, connection=1, online=True)
        self._publish("online", encode(birth))
        if self.last is None:
            self.report()
        else:
            self._publish("reported", encode(self.last))

    def _told(self, _client: Any, _data: Any, message: Any) -> None:
        desired = Desired.model_validate_json(
            canonical_bytes(json.loads(message.payload)["signed"])
        )
        if self.seen and desired.generation <= self.seen[-1]["generation"]:
            return
        self.seen.append(json.loads(message.payload)["signed"])
        about = {
            "generation": desired.generation,
            "rollout": desired.rollout,
            "release": desired.release,
        }
        if self.conduct is None or desired.release is None:
            return
        self.report(state=State.DOWNLOAD, **about)
        if self.conduct is Outcome.COMMITTED:
            self.report(outcome=self.conduct, active=sha("active"), **about)
            return
        figure = GateFigure(
            metric="cosine", value=0.41, bound=0.98, direction="at-least", passed=False
        )
        gate = GateReport(bundle=sha("active"), passed=False, figures=[figure])
        self.report(state=State.QUARANTINE, outcome=self.conduct, gate=gate, **about)

    def _publish(self, channel: str, payload: bytes) -> None:
        self.client.publish(topic(self.name, channel), payload, qos=1, retain=True)


def until(condition: Callable[[], Any], what: str) -> Any:
    """Return the condition's first true value; fail with `what` when patience ends."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"never: {what}")
