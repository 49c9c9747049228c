"""The operator's command line against a fleet that is up."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from control_support import SimulatedDevice, make_bundle, until

from edgeward.errors import EdgewardError, TrustError
from edgeward.fleet.cli.fleet import fleet_group
from edgeward.fleet.cli.release import release_group
from edgeward.fleet.control.client import Client
from edgeward.fleet.control.up import Options, fleet
from edgeward.fleet.protocol.documents import Outcome


class Desk:
    """An operator: a home, a runner, the options that every command needs."""

    def __init__(self, folder: Path, mqtt: str) -> None:
        self.folder, self.mqtt = folder, mqtt
        self.home = folder / "home"

    def ask(self, *words: str, code: int = 0) -> Result:
        group = release_group if words[0] == "release" else fleet_group
        result = CliRunner().invoke(group, [*words[1:], "--home", str(self.home)])
        if isinstance(result.exception, EdgewardError):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    def say(self, *words: str, code: int = 0) -> str:
        return self.ask(*words, code=code).stdout.strip()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with fleet(Options(tmp_path / "home", http_port=0)) as urls:
        yield Desk(tmp_path, urls.mqtt)


def test_from_a_key_to_a_rollout_that_halts_and_one_that_completes(desk: Desk) -> None:
    key = str(desk.folder / "key")
    bundle = str(make_bundle(desk.folder / "bundle"))
    assert CliRunner().invoke(release_group, ["keygen", key]).exit_code == 0
    with pytest.raises(TrustError) as caught:
        desk.say("release", "create", "kiosk", "1.0.0", bundle, "--sign", key)
    assert "release trust" in caught.value.next
    desk.say("release", "trust", key)
    digest = desk.say("release", "create", "kiosk", "1.0.0", bundle, "--sign", key)
    shown = json.loads(desk.say("release", "show", "kiosk", "1.0.0"))
    assert (shown["digest"], shown["sequence"]) == (digest, 1)
    assert "kiosk-x86" in desk.say("release", "list")

    device = SimulatedDevice("d0", desk.mqtt, Outcome.REFUSED)
    try:
        until(lambda: Client.of_home(desk.home).devices(), "it reports")
        assert desk.say("fleet", "devices", "label", "d0", "store") == "store"
        create = ("fleet", "rollout", "create", "kiosk", "1.0.0", "--to", "label:store")
        first = desk.say(*create, "--waves", "50%,100%", "--soak", "10s")
        watched = desk.say("fleet", "rollout", "watch", first, code=1)
        assert "halted: d0 refused" in watched
        assert "gate: cosine 0.41 < 0.98" in watched
        device.conduct = Outcome.COMMITTED
        resumed = desk.say("fleet", "rollout", "resume", first, "--retry-failed")
        assert resumed in ("running", "complete")  # the device may be the faster one
        watched = desk.say("fleet", "rollout", "watch")
        assert "1/1 committed" in watched
        assert "complete" in watched
    finally:
        device.stop()
    (row,) = json.loads(desk.say("fleet", "rollout", "list", "-o", "json"))
    assert (row["id"], row["phase"], row["committed"]) == (first, "complete", 1)
    (row,) = csv.DictReader(io.StringIO(desk.say("fleet", "devices", "-o", "csv")))
    assert (row["id"], row["version"], row["labels"]) == ("d0", "1.0.0", "store")
    policy = json.loads(desk.say("fleet", "rollout", "show", first))["policy"]
    assert policy["soak_seconds"] == 10.0
    assert json.loads(desk.say("fleet", "status"))["devices"] == 1
    desk.say("fleet", "devices", "forget", "d0")
    assert json.loads(desk.say("fleet", "devices", "-o", "json")) == []


@pytest.mark.parametrize(
    "wish", [("--soak", "1q"), ("--waves", "50%,"), ("--waves", "x"), ("--max-failures", "-1")]
)
def test_wishes_that_cannot_be_read_are_usage_errors(tmp_path: Path, wish: tuple[str, str]) -> None:
    words = ["rollout", "create", "kiosk", "1.0.0", "--to", "all", *wish, "--home", str(tmp_path)]
    assert CliRunner().invoke(fleet_group, words).exit_code == 2


def test_without_a_fleet_the_words_say_how_to_start_one(tmp_path: Path) -> None:
    result = CliRunner().invoke(fleet_group, ["devices", "--home", str(tmp_path)])
    assert isinstance(result.exception, EdgewardError)
    assert "fleet up" in result.exception.next
