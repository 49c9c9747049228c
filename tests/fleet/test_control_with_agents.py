"""A fleet that is up, two real agents, a real bundle: the whole road, process by process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from control_support import until

from edgeward.fleet.control.client import Client
from edgeward.runtimes.bundle.read import Bundle

pytestmark = pytest.mark.slow
ROLLOUT_SECONDS = 150.0


class Machine:
    """Runs the command line as people do, and ends what it started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "fleet"
        self.running: list[subprocess.Popen[str]] = []

    def run(self, *words: str, code: int = 0) -> str:
        """Run a verb to its end and return its output."""
        done = subprocess.run(
            [sys.executable, "-m", "edgeward", *words],
            capture_output=True,
            text=True,
            timeout=ROLLOUT_SECONDS,
            check=False,
        )
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a verb that stays."""
        log = (self.folder / f"{len(self.running)}-{words[0]}.log").open("w")
        process = subprocess.Popen(
            [sys.executable, "-m", "edgeward", *words],
            stdout=log,
            stderr=log,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self.running.append(process)
        return process

    def stop(self) -> list[int]:
        """End all, the last first; return their exit codes."""
        for process in reversed(self.running):
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        return [process.returncode for process in self.running]

    @property
    def client(self) -> Client:
        """The operator's client."""
        return Client.of_home(self.home)

    def roll_out(self, version: str) -> dict[str, Any]:
        """Roll a version out to everybody in two waves and watch it to its end."""
        home = ("--home", str(self.home))
        made = self.run(
            "fleet", "rollout", "create", "tiny", version, "--to", "label:store",
            "--waves", "50%,100%", "--soak", "1s", "--timeout", "2m", *home,
        ).strip()  # fmt: skip
        watched = subprocess.run(
            [sys.executable, "-m", "edgeward", "fleet", "rollout", "watch", made, *home],
            capture_output=True,
            text=True,
            timeout=ROLLOUT_SECONDS,
            check=False,
        )
        found = self.client.rollout(made)
        assert watched.returncode == (0 if found["phase"] == "complete" else 1), watched.stderr
        assert found["phase"] in watched.stdout
        return found


def ask_model(machine: Machine, device: str, times: int) -> None:
    """Call the model that a device serves."""
    home = ("--home", str(machine.folder / device))
    port = json.loads(machine.run("agent", "status", *home, "-o", "json"))["port"]
    for _ in range(times):
        answer = urllib3.request(
            "POST", f"http://127.0.0.1:{port}/v1/embeddings", json={"input": "where is gate b12"}
        )
        assert answer.status == 200, answer.data


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    home = ("--home", str(made.home))
    made.start("fleet", "up", "--http-port", "0", *home)
    until((made.home / "fleet.json").exists, "the fleet is up")
    made.run("release", "keygen", str(tmp_path / "key"))
    made.run("release", "trust", str(tmp_path / "key"), *home)
    url = json.loads((made.home / "fleet.json").read_text())["http"]
    for name in ("kiosk-1", "kiosk-2"):
        device = ("--home", str(tmp_path / name))
        made.run(
            "agent", "enroll", *device, "--controller", url, "--id", name,
            "--target", "x86-64-cpu",
        )  # fmt: skip
        made.start("agent", "run", *device, "--poll-seconds", "0.5")
    until(lambda: len(made.client.devices()) == 2, "both devices have reported")
    for name in ("kiosk-1", "kiosk-2"):
        made.run("fleet", "devices", "label", name, "store", *home)
    try:
        yield made
    finally:
        codes = made.stop()
        for number, code in enumerate(codes):
            if code:
                print(next(tmp_path.glob(f"{number}-*.log")).read_text()[-3000:])
    assert codes == [0, 0, 0]


def test_a_release_reaches_both_and_a_bad_one_is_stopped_at_the_first(
    machine: Machine, tiny_bundle: Bundle, make_bundle: Callable[..., Bundle]
) -> None:
    home = ("--home", str(machine.home))
    sign = ("--sign", str(machine.folder / "key"))
    machine.run("release", "create", "tiny", "1.0.0", str(tiny_bundle.path), *sign, *home)
    found = machine.roll_out("1.0.0")
    assert (found["phase"], found["committed"]) == ("complete", 2), found
    assert {d["active"] for d in machine.client.devices()} == {tiny_bundle.digest}
    ask_model(machine, "kiosk-1", times=5)

    def counted() -> dict[str, Any] | None:
        rows = [row for row in machine.client.stats() if row["device"] == "kiosk-1"]
        return rows[0] if rows and rows[0]["requests"] >= 5 else None

    row = until(counted, "all five requests are counted")
    assert row["bundle"] == tiny_bundle.digest
    assert (row["errors"], row["latency_p50_ms"] > 0, row["memory_bytes"] > 0) == (0, True, True)

    bad = make_bundle("bad", noise=0.6)
    machine.run("release", "create", "tiny", "1.1.0", str(bad.path), *sign, *home)
    found = machine.roll_out("1.1.0")
    assert found["phase"] == "halted", found
    states = {m["wave"]: m["state"] for m in found["members"]}
    assert states == {1: "refused", 2: "pending"}
    refused = [e["text"] for e in found["timeline"] if e["kind"] == "refused"]
    assert len(refused) == 1
    assert "cosine" in refused[0]
    until(
        lambda: {d["version"] for d in machine.client.devices()} == {"1.0.0"},
        "everybody is on what worked",
    )
    assert {d["active"] for d in machine.client.devices()} == {tiny_bundle.digest}

    rows = json.loads(machine.run("fleet", "devices", "-o", "json", *home))
    assert [row["id"] for row in rows] == ["kiosk-1", "kiosk-2"]
    assert all(row["online"] for row in rows)
