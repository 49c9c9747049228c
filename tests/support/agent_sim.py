"""A fleet in memory for the agent's tests: controller, line, device, server, clock."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgeward.errors import DoesNotFitError, TransferError
from edgeward.fleet.agent.clock import BUILD_TIME
from edgeward.fleet.agent.config import Trust
from edgeward.fleet.agent.device import GateLimits
from edgeward.fleet.agent.fetch import Response
from edgeward.fleet.agent.server import Commands
from edgeward.fleet.protocol.documents import Desired, Policy, ReleaseRef, Reported
from edgeward.fleet.protocol.jobs import Job, JobReport, pack
from edgeward.fleet.protocol.release import Permit, Release, Variant
from edgeward.fleet.protocol.wire import decode
from edgeward.fleet.trust.envelope import envelope_digest, seal, seal_bytes
from edgeward.fleet.trust.keys import SigningKey
from edgeward.runtimes.bundle.read import Bundle, open_bundle
from edgeward.runtimes.bundle.write import writing_bundle

NOW = BUILD_TIME + 1000.0
GATE = GateLimits(max_memory_bytes=2**30, max_temperature_c=90.0)
STANDIN = Path(__file__).parent / "agent_standin.py"
STANDINS = Commands(
    selftest=(sys.executable, "-S", str(STANDIN), "selftest"),
    serve=(sys.executable, "-S", str(STANDIN), "serve"),
    finalize=(sys.executable, "-S", str(STANDIN), "finalize"),
    job=(sys.executable, "-S", str(STANDIN), "job"),
)


def make_text_bundle(folder: Path, text: str, target: str = "kiosk-x86") -> Bundle:
    """Write a small bundle whose model is a text that tells the stand-ins how to behave."""
    with writing_bundle(folder) as writer:
        writer.add_bytes("model.bin", text.encode())
        writer.add_bytes("big.bin", hashlib.sha256(text.encode()).digest() * 40_000)
        writer.add_bytes("config.json", b"{}")
        writer.add_bytes("empty.txt", b"")
        writer.write_manifest(
            {
                "schema_version": "1.0",
                "name": "kiosk",
                "task": "feature-extraction",
                "entry": "model.bin",
                "source": {"id": "kiosk", "architecture": "Bert", "weights_sha256": "0" * 64},
                "target": {"name": target, "digest": "0" * 64},
                "recipe": {"format": "onnx", "precision": "fp32", "options": _options(text)},
                "files": [entry.model_dump() for entry in writer.files()],
                "inputs": [],
                "outputs": [],
                "proof": {"verified": "engine", "checks": []},
            }
        )
    return open_bundle(folder)


def _options(text: str) -> dict[str, str]:
    return {"engine": "tensorrt"} if "build" in text else {}


def variant(bundle: Bundle, **changes: Any) -> Variant:
    """Return the variant of a bundle."""
    manifest = bundle.manifest
    fields = {
        "bundle": bundle.digest,
        "target": manifest.target.name,
        "target_digest": manifest.target.digest,
        "format": manifest.recipe.format,
        "precision": manifest.recipe.precision,
        "size": manifest.size,
        "engine": "onnxruntime",
    }
    return Variant(**{**fields, **changes})


class FakeClock:
    """Time that passes when somebody waits."""

    def __init__(self, now: float = NOW) -> None:
        self.wall = now
        self.time = 100.0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.wall += seconds


@dataclass
class Simulator:
    """A controller in a few dictionaries; also a Fetcher. `fault` may answer in its place."""

    controller_key: SigningKey = field(
        default_factory=lambda: SigningKey(Ed25519PrivateKey.generate())
    )
    release_key: SigningKey = field(
        default_factory=lambda: SigningKey(Ed25519PrivateKey.generate())
    )
    documents: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    fault: Callable[[str, Mapping[str, str]], Response | None] | None = None
    generation: int = 0
    jobs: dict[str, bytes] = field(default_factory=dict)
    mqtt: str | None = None

    @property
    def trust(self) -> Trust:
        return Trust((self.controller_key.public,), (self.release_key.public,))

    def add(self, bundle: Bundle) -> Bundle:
        """Hold a bundle's manifest and files."""
        path = f"/v1/manifests/{bundle.digest}"
        self.documents[path] = (bundle.path / "manifest.json").read_bytes()
        for entry in bundle.manifest.files:
            self.blobs[entry.sha256] = (bundle.path / entry.path).read_bytes()
        return bundle

    def release(
        self, sequence: int, *variants: Variant, key: SigningKey | None = None, model: str = "kiosk"
    ) -> ReleaseRef:
        """Sign a release and hold it."""
        release = Release(
            model=model,
            version=f"1.{sequence}",
            sequence=sequence,
            created_at=NOW,
            variants=list(variants),
        )
        envelope = seal(release, key or self.release_key)
        digest = envelope_digest(envelope)
        self.documents[f"/v1/releases/{digest}"] = json.dumps(envelope).encode()
        return ReleaseRef(model=model, version=release.version, digest=digest)

    def desire(
        self,
        release: ReleaseRef | None,
        *,
        device: str = "kiosk-1",
        addressee: str | None = None,
        key: SigningKey | None = None,
        **changes: Any,
    ) -> Desired:
        """Sign and hold what a device is to run, one generation on."""
        self.generation += 1
        policy = {"soak_seconds": 3.0, "gate_timeout_seconds": 20.0, **changes.pop("policy", {})}
        desired = Desired(
            **{
                "device": addressee or device,
                "generation": self.generation,
                "release": release,
                "rollout": f"r-{self.generation}",
                "policy": Policy(**policy),
                "issued_at": NOW,
                "expires_at": NOW + 86_400.0,
                **changes,
            }
        )
        data = seal_bytes(desired, key or self.controller_key)
        self.documents[f"/v1/devices/{device}/desired"] = data
        return desired

    def ask(self, job: str, *, key: SigningKey | None = None, **changes: Any) -> Job:
        """Sign a job and list it, until `await_no` takes it off."""
        made = Job(
            **{
                "id": job,
                "device": "kiosk-1",
                "action": "benchmark",
                "timeout_seconds": 30.0,
                "issued_at": NOW,
                "expires_at": NOW + 3600.0,
                **changes,
            }
        )
        self.jobs[job] = seal_bytes(made, key or self.controller_key)
        self._list()
        return made

    def await_no(self, *jobs: str) -> None:
        """Take jobs off the list, as the controller does once it has their reports."""
        self.jobs = {name: sealed for name, sealed in self.jobs.items() if name not in jobs}
        self._list()

    def _list(self) -> None:
        answer = pack(list(self.jobs.values()), list(self.jobs))
        self.documents["/v1/devices/kiosk-1/jobs"] = answer

    def permit(self, to: int, *, device: str = "*", expires_in: float = 3600.0) -> dict[str, Any]:
        """Return a sealed permit to go down."""
        permit = Permit(model="kiosk", device=device, to_sequence=to, expires_at=NOW + expires_in)
        return seal(permit, self.release_key)

    @contextmanager
    def open(self, path: str, headers: Mapping[str, str]) -> Iterator[Response]:
        """Answer as the controller would."""
        self.requests.append(path)
        answer = self.fault(path, headers) if self.fault else None
        yield answer or self.answer(path, headers)

    def answer(self, path: str, headers: Mapping[str, str]) -> Response:
        """Return the right answer."""
        if path == "/v1/trust":
            return _ok(
                json.dumps(
                    {
                        "controller_keys": [self.controller_key.public.hex],
                        "release_keys": [self.release_key.public.hex],
                        "mqtt": self.mqtt,
                    }
                ).encode()
            )
        if path in self.documents:
            return _ok(self.documents[path])
        data = self.blobs.get(path.rpartition("/")[2])
        if data is None:
            return Response(404, {"content-length": "0"}, iter(()))
        return ranged(data, path.rpartition("/")[2], headers)


def ranged(data: bytes, name: str, headers: Mapping[str, str]) -> Response:
    """Answer a range request as RFC 9110 has it."""
    low = {key.lower(): value for key, value in headers.items()}
    etag = f'"{name}"'
    found = re.fullmatch(r"bytes=(\d+)-(\d+)", low.get("range", ""))
    if not found or low.get("if-range", etag) != etag:
        return _ok(data, {"etag": etag})
    start, last = int(found[1]), min(int(found[2]), len(data) - 1)
    if start >= len(data):
        return Response(416, {"content-range": f"bytes */{len(data)}"}, iter(()))
    part = data[start : last + 1]
    more = {"etag": etag, "content-range": f"bytes {start}-{last}/{len(data)}"}
    return Response(206, {**more, "content-length": str(len(part))}, iter([part]))


def _ok(data: bytes, more: Mapping[str, str] | None = None) -> Response:
    headers = {"content-length": str(len(data)), **(more or {})}
    return Response(200, headers, iter([data] if data else []))


def cut_off(*_: object) -> Response | None:
    """A fault: no network at all."""
    raise TransferError("No connection", why="the cable is out")


@dataclass
class FakeLink:
    """A line that keeps what is said; time passes while it is pumped."""

    clock: FakeClock
    connected: bool = True
    hint: bool = False
    reports: list[Reported] = field(default_factory=list)
    stats: list[bytes] = field(default_factory=list)
    results: list[JobReport] = field(default_factory=list)

    def pump(self, seconds: float) -> None:
        self.clock.sleep(seconds)

    def report(self, data: bytes) -> None:
        self.reports.append(decode(data, Reported))

    def send_stats(self, data: bytes) -> Sent:
        self.stats.append(data)
        return Sent()

    def send_result(self, data: bytes) -> None:
        if self.connected:
            self.results.append(decode(data, JobReport))

    def hinted(self) -> bool:
        hint, self.hint = self.hint, False
        return hint

    def close(self) -> None:
        self.connected = False


class Sent:
    """A message that is gone."""

    def is_published(self) -> bool:
        return True


@dataclass
class FakeServer:
    """A model server without a process; the bundle's text says how it behaves."""

    digest: str | None = None
    alive: bool = False
    port: int | None = None
    started: list[str] = field(default_factory=list)
    text: str = ""
    asked: list[str] = field(default_factory=list)

    def start(self, folder: Path, digest: str) -> None:
        self.text = (folder / "model.bin").read_text()
        self.digest, self.alive = digest, "wont-start" not in self.text
        self.port = 8000 if self.alive and "never-ready" not in self.text else None
        self.started.append(digest)

    def stop(self) -> None:
        self.digest, self.alive, self.port = None, False, None

    def health(self) -> str | None:
        if "dies-later" in self.text:
            self.alive, self.port = False, None
        if "wrong-health" in self.text:
            return "f" * 64
        return None if "no-health" in self.text or not self.alive else self.digest

    def probe(self, text: str) -> str | None:
        self.asked.append(text)
        return "HTTP 500" if "wont-answer" in self.text else None

    def words(self) -> str:
        return "last words"


@dataclass
class FakeSpool:
    """A spool in memory."""

    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    last: int = 0
    claimed: int | None = None

    def claim(self, number: int) -> int:
        if self.claimed is None:
            self.claimed = number
        return self.claimed

    def append(self, delta: dict[str, Any]) -> None:
        self.last += 1
        self.rows[self.last] = delta

    def peek(self, limit: int = 100) -> list[tuple[int, dict[str, Any]]]:
        return sorted(self.rows.items())[:limit]

    def discard(self, up_to_id: int) -> None:
        self.rows = {number: delta for number, delta in self.rows.items() if number > up_to_id}


@dataclass
class FakeDevice:
    """A machine that is one target."""

    fingerprint: str = "f" * 64
    target: str | None = "kiosk-x86"
    memory_bytes: int = 2**32
    heat: float | None = 40.0
    gate: GateLimits = GATE

    def rank(self, target: str) -> int:
        if target != self.target:
            raise DoesNotFitError("Another kind of device", why=f"this is a {self.target}")
        return 1

    def check_engine(self, variant: Variant) -> None:
        return None

    def limits(self, target: str) -> GateLimits:
        return self.gate

    def temperature_c(self) -> float | None:
        return self.heat
