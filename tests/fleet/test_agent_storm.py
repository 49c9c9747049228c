"""Real agent processes, killed at every state and at random, against a real HTTP controller."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_http import serving
from agent_sim import Simulator, make_text_bundle, variant
from matrix import sampled

from edgeward.fleet.agent.enroll import enroll
from edgeward.fleet.agent.fetch import HttpFetcher
from edgeward.fleet.agent.home import Home
from edgeward.fleet.protocol.documents import State
from edgeward.runtimes.bundle.read import open_bundle

PROCESS = Path(__file__).parents[1] / "support" / "agent_process.py"
PATIENCE = 60.0
UPDATE = [state.value for state in State if state not in (State.ROLLBACK, State.QUARANTINE)]
POLICY = {"soak_seconds": 0.3, "gate_timeout_seconds": 20.0}


class Kiosk:
    """One device whose agent is a process."""

    def __init__(self, folder: Path, sim: Simulator, url: str) -> None:
        self.folder, self.sim, self.home = folder, sim, Home(folder / "home")
        self.digests: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None
        self._sequence = 0
        now = {"controller": url, "device": "kiosk-1", "target": "kiosk-x86"}
        enroll(self.home, HttpFetcher(url), poll_seconds=0.2, **now)

    def desire(self, text: str = "") -> str:
        """Release a new bundle and desire it."""
        self._sequence += 1
        made = self.folder / "made" / str(self._sequence)
        bundle = make_text_bundle(made, f"{text} {self._sequence}")
        self.sim.add(bundle)
        now = time.time()
        self.sim.desire(
            self.sim.release(self._sequence, variant(bundle)),
            policy=POLICY,
            issued_at=now,
            expires_at=now + 3600.0,
        )
        self.digests.append(bundle.digest)
        return bundle.digest

    def start(self, *die: str) -> None:
        with (self.folder / "log").open("ab") as log:
            command = [sys.executable, str(PROCESS), str(self.home.root), *die]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def wait_for_death(self) -> None:
        assert self.process is not None
        assert self.process.wait(PATIENCE) == -signal.SIGKILL, self.log()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(PATIENCE) == 0, self.log()

    def status(self) -> dict[str, Any]:
        try:
            document: dict[str, Any] = json.loads(self.home.status.read_text())
        except FileNotFoundError:
            return {}
        return document

    def until(self, done: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            status = self.status()
            alive = self.process is not None and self.process.poll() is None
            if status.get("pid") == getattr(self.process, "pid", None) and done(status):
                return status
            assert alive, self.log()
            time.sleep(0.05)
        raise AssertionError(f"{self.status()}\n{self.log()}")

    def settled(self) -> dict[str, Any]:
        wanted = self.sim.generation
        return self.until(
            lambda s: s["generation"] == wanted and s["settled"] and s["state"] == "idle"
        )

    def active(self) -> str:
        """Return the active bundle's digest, all of it checked."""
        return open_bundle(self.home.active.resolve(strict=True)).digest

    def log(self) -> str:
        return (self.folder / "log").read_text()[-3000:]


@pytest.fixture
def kiosk(tmp_path: Path) -> Iterator[Kiosk]:
    sim = Simulator()
    with serving(sim) as url:
        kiosk = Kiosk(tmp_path, sim, url)
        yield kiosk
        if kiosk.process is not None:
            kiosk.kill()


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def killed_in(kiosk: Kiosk, state: str, when: str) -> None:
    former, new = kiosk.active(), kiosk.desire("build" if state == "finalize" else "")
    kiosk.start("--die", state, when, str(kiosk.folder / f"{state}-{when}"))
    kiosk.wait_for_death()
    assert kiosk.active() in (former, new)
    kiosk.start()
    status = kiosk.settled()
    assert (status["outcome"], status["active"]) == ("committed", new)
    assert status["quarantined"] == []
    assert kiosk.active() == new
    kiosk.stop()


def installed(kiosk: Kiosk) -> str:
    digest = kiosk.desire()
    kiosk.start()
    kiosk.settled()
    kiosk.stop()
    assert kiosk.active() == digest
    return digest


@pytest.mark.parametrize("state", ["download", "activate", "commit"])
def test_a_kill_in_a_state_is_survived(kiosk: Kiosk, state: str) -> None:
    installed(kiosk)
    killed_in(kiosk, state, "after")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_kill_before_and_after_every_journal_record_is_survived(kiosk: Kiosk) -> None:
    installed(kiosk)
    for state in UPDATE:
        for when in ("before", "after"):
            killed_in(kiosk, state, when)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("state", ["rollback", "quarantine"])
def test_a_kill_while_going_back_is_survived(kiosk: Kiosk, state: str) -> None:
    good = installed(kiosk)
    for when in ("before", "after"):
        bad = kiosk.desire("wont-answer")
        kiosk.start("--die", state, when, str(kiosk.folder / f"{state}-{when}"))
        kiosk.wait_for_death()
        assert kiosk.active() in (good, bad)
        kiosk.start()
        status = kiosk.settled()
        assert bad in status["quarantined"]
        assert kiosk.active() == good
        kiosk.stop()


def storm(kiosk: Kiosk, kills: int, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - a seeded loop
    installed(kiosk)
    for _ in range(kills):
        if dice.random() < 0.5:
            kiosk.desire("wont-answer" if dice.random() < 0.3 else "")
        kiosk.start()
        time.sleep(dice.uniform(0.2, 2.5))
        kiosk.kill()
        assert kiosk.active() in kiosk.digests
    last = kiosk.desire()
    kiosk.start()
    status = kiosk.settled()
    assert (status["outcome"], kiosk.active()) == ("committed", last)
    kiosk.stop()
    left = [path.name for path in kiosk.home.bundles.iterdir()]
    assert len(left) <= 2
    assert not list((kiosk.home.blobs / "partial").iterdir())


@pytest.mark.slow
def test_a_small_storm_of_kills(kiosk: Kiosk) -> None:
    storm(kiosk, 4, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", sampled((2, 3), 2))
def test_a_storm_of_kills(kiosk: Kiosk, seed: int) -> None:
    storm(kiosk, 60, seed)


def test_the_server_goes_with_the_agent_however_it_ends(kiosk: Kiosk) -> None:
    kiosk.desire()
    kiosk.start()
    kiosk.settled()
    server = json.loads(kiosk.home.server.read_text())["pid"]
    os.kill(server, 0)
    kiosk.kill()
    end = time.monotonic() + PATIENCE
    while not is_gone(server) and time.monotonic() < end:
        time.sleep(0.02)
    assert is_gone(server)
    kiosk.start()
    kiosk.until(lambda s: s["port"] is not None)
    server = json.loads(kiosk.home.server.read_text())["pid"]
    kiosk.stop()
    assert is_gone(server)


def test_two_agents_do_not_share_a_home(kiosk: Kiosk) -> None:
    kiosk.start()
    kiosk.until(lambda s: s["state"] == "idle")
    second = subprocess.run(
        [sys.executable, "-m", "edgeward", "agent", "run", "--home", str(kiosk.home.root)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert second.returncode == 1
    assert "Another agent works in" in second.stderr
    assert "Traceback" not in second.stderr
    kiosk.stop()
