"""`edgeward bench --on`: a real broker and controller, a real agent process, a tiny bundle."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
from bench_bundles import decoder_bundle
from control_support import until
from typed import typed

from edgeward.fleet.agent.enroll import enroll
from edgeward.fleet.agent.fetch import HttpFetcher
from edgeward.fleet.agent.home import Home
from edgeward.fleet.control.client import Client
from edgeward.fleet.control.home import FleetHome
from edgeward.fleet.control.problems import NotThereError
from edgeward.fleet.control.up import Options, fleet
from edgeward.fleet.trust.keys import generate
from edgeward.runtimes.bundle.read import Bundle
from edgeward.targets.bench.store import VARIABLE, Store

DEVICE = "kiosk-1"
TARGET = "x86-64-cpu"
SHORT = ("--min-queries", "3", "--min-duration", "0", "--threads", "1", "--gen", "4")
pytestmark = pytest.mark.slow


class Town:
    """A fleet on this machine and one device, which can be killed and started again."""

    def __init__(self, folder: Path, bundle: Bundle, url: str) -> None:
        self.folder, self.home = folder, Home(folder / "device")
        self.client = Client.of_home(folder / "fleet")
        fetcher = HttpFetcher(url)
        enroll(self.home, fetcher, controller=url, device=DEVICE, target=TARGET, poll_seconds=0.5)
        self.home.prepare()
        shutil.copytree(bundle.path, self.home.bundles / bundle.digest)
        self.home.active.symlink_to(f"bundles/{bundle.digest}")
        self.agent: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the agent; it takes the active bundle as its own."""
        with (self.folder / "agent.log").open("ab") as log:
            self.agent = subprocess.Popen(
                [sys.executable, "-m", "edgeward", "agent", "run", "--home", str(self.home.root)],
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End the agent."""
        if self.agent is not None:
            self.agent.send_signal(number)
            self.agent.wait(60)
        self.agent = None

    def jobs(self) -> list[tuple[str, str]]:
        return [(each["id"], each["state"]) for each in self.client.jobs(DEVICE)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tiny generator: its speed can be planned."""
    return decoder_bundle(tmp_path_factory.mktemp("bundles") / "decoder")


@pytest.fixture
def town(tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "bench.sqlite"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("EDGEWARD_FLEET_HOME", str(tmp_path / "fleet"))
    with fleet(Options(tmp_path / "fleet", http_port=0)) as urls:
        FleetHome(tmp_path / "fleet").trust_release_key(generate(tmp_path / "key").public)
        made = Town(tmp_path, bundle, urls.http)
        made.start()
        try:
            until(made.client.devices, "the device has reported")
            yield made
        finally:
            made.kill(signal.SIGTERM)


def test_a_record_comes_back_and_stands_beside_its_prediction(town: Town, bundle: Bundle) -> None:
    until(lambda: json.loads(town.home.status.read_text())["port"], "it serves")
    said = typed("bench", bundle.path, "--on", DEVICE, *SHORT, "--batch", "1,2", "-o", "json")
    assert said.returncode == 0, said
    found = json.loads(said.stdout)
    assert [record["batch"] for record in found] == [1, 2]
    for record in found:
        assert (record["device"], record["device_target"]) == (DEVICE, TARGET)
        assert record["served_meanwhile"] == record["bundle_digest"] == bundle.digest
        assert record["query_count"] == len(record["samples_ns"]) == 3
        assert record["predicted_for"] == TARGET
        error = 100 * (record["predicted_tpot_ms"] / record["tpot_p50_ms"] - 1)
        assert record["tpot_ms_error_percent"] == pytest.approx(error)
        assert record["model_filename"] == str(town.home.bundles / bundle.digest)
    assert Store().records() == found
    assert [state for _, state in town.jobs()] == ["done", "done"]
    until(lambda: not list((town.home.jobs / "reports").iterdir()), "no report is left")
    port = json.loads(town.home.status.read_text())["port"]
    health = urllib3.request("GET", f"http://127.0.0.1:{port}/healthz").json()
    assert health["bundle"] == bundle.digest, "it went on serving"

    table = typed("bench", "active", "--on", DEVICE, *SHORT)
    assert f"{DEVICE} ({TARGET})" in table.stdout
    assert "while serving" in table.stdout
    again = typed("bench", "fetch", found[0]["job"], "-o", "json")
    assert json.loads(again.stdout) == [found[0]]
    assert len(Store().records()) == 3, "what was kept before is not kept twice"


def test_what_the_device_has_not_is_refused_in_words(town: Town) -> None:
    said = typed("bench", "0123456789abcdef", "--on", DEVICE, *SHORT)
    assert said.returncode == 1
    assert "0123456789ab is not on this device" in said.stderr
    assert [state for _, state in town.jobs()] == ["refused"]
    wrong = typed("bench", "active", "--on", DEVICE, "--scenario", "Server", "--batch", "2")
    assert wrong.returncode == 2
    nobody = typed("bench", "active", "--on", "kiosk-2", *SHORT)
    assert nobody.returncode == NotThereError.exit_code
    assert "No device kiosk-2" in nobody.stderr
    assert len(town.jobs()) == 1


def test_a_killed_agent_loses_nothing(town: Town) -> None:
    said = typed("bench", "active", "--on", DEVICE, "--min-duration", "60", "--wait", "0")
    assert said.returncode == 1
    assert "edgeward bench fetch j-" in said.stderr
    journal = town.home.jobs / "journal"
    until(lambda: journal.exists() and b'"attempts":1' in journal.read_bytes(), "it has begun")
    until(lambda: workers(town), "it measures")
    town.kill()
    until(lambda: not workers(town), "what it had begun ends with it")
    ((job, state),) = town.jobs()
    assert state == "open"
    town.start()
    until(lambda: workers(town), "it is begun again")
    town.kill(signal.SIGTERM)
    until(lambda: not workers(town), "an orderly stop ends it too")
    assert town.jobs() == [(job, "open")]
    assert typed("bench", "fetch", job).returncode == 1


def workers(town: Town) -> list[str]:
    """Return the command lines of the processes that measure a bundle of this device."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
        except OSError:
            continue
        if str(town.home.root) in " ".join(words) and "bench.worker" in " ".join(words):
            found.append(" ".join(words))
    return found
