"""`edgeward targets` on the command line."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typed import Done, typed

from edgeward.targets.fingerprint import Fingerprint


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWARD_TARGETS_PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def edgeward(*arguments: str) -> Done:
    return typed("targets", *arguments)


def test_list_in_every_form() -> None:
    table = edgeward("list").stdout
    document = json.loads(edgeward("list", "-o", "json").stdout)
    lines = [json.loads(line) for line in edgeward("list", "-o", "jsonl").stdout.splitlines()]
    rows = list(csv.DictReader(io.StringIO(edgeward("list", "-o", "csv").stdout)))
    assert lines == document
    assert [row["name"] for row in rows] == [row["name"] for row in document]
    assert {row["name"]: row["memory"] for row in document}["kiosk-x86"] == 4 * 2**30
    assert "8.0 GiB" in table
    assert "jetson-orin " not in table


def test_list_warns_of_a_broken_file_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("title = 1")
    done = edgeward("list", "-o", "jsonl")
    assert done.returncode == 0
    assert "broken.toml:1: title must be text" in done.stderr
    assert "kiosk-x86" in done.stdout


def test_show_in_every_form(tmp_path: Path) -> None:
    table = edgeward("show", "jetson-orin-nano").stdout
    assert "DS-11105-001: 68 GB/s" in table
    document = json.loads(edgeward("show", "jetson-orin-nano", "-o", "json").stdout)
    assert document["hardware"]["cores"] == 6
    toml = edgeward("show", "jetson-orin-nano", "-o", "toml").stdout
    copy = tmp_path / "copied" / "jetson-orin-nano.toml"
    copy.parent.mkdir()
    copy.write_text(toml)
    again = json.loads(edgeward("show", str(copy), "-o", "json").stdout)
    assert again["digest"] == document["digest"]


def test_probe_writes_a_profile_that_validates(tmp_path: Path) -> None:
    path = tmp_path / "this-one.toml"
    done = edgeward("probe", "-o", str(path))
    assert (done.returncode, done.stdout) == (0, "")
    assert "matches:" in done.stderr
    valid = edgeward("validate", str(path))
    assert valid.returncode == 0
    assert "valid, digest" in valid.stdout
    assert "this-one" in edgeward("list").stdout


def test_probe_writes_to_standard_output() -> None:
    assert "[hardware]" in edgeward("probe").stdout
    text = edgeward("probe", "--fingerprint").stdout
    assert Fingerprint.from_json(text).cores >= 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("show", "jetson-orin-nan"), 2, "closest: jetson-orin-nano"),
        (("show", "jetson-orin"), 2, "is a family of devices"),
        (("validate", "/nowhere/at-all.toml"), 1, "cannot be read"),
        (("probe", "-o", "/nowhere/at-all.toml"), 2, "cannot be written"),
        (("list", "-o", "yaml"), 2, "yaml"),
    ],
)
def test_mistakes_are_answered_in_words(arguments: tuple[str, ...], code: int, words: str) -> None:
    done = edgeward(*arguments)
    assert done.returncode == code
    assert words in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_family_validates(tmp_path: Path) -> None:
    path = tmp_path / "family.toml"
    path.write_text('title = "A family"\nabstract = true\n')
    assert "a family, not a target" in edgeward("validate", str(path)).stdout


def test_the_room_is_light_to_import() -> None:
    code = (
        "import sys, edgeward.targets as t; light = set(sys.modules); assert callable(t.names); "
        "import edgeward.targets.cli, edgeward.targets.load, edgeward.targets.probe; "
        "heavy = {'numpy', 'rich', 'pydantic', 'onnxruntime'} & set(sys.modules); "
        "print(sorted(heavy), 'edgeward.targets.load' in light, sorted(set(t.__all__) - set(dir(t))"
        " - {n for n in t.__all__ if getattr(t, n, None) is not None}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "[] False []"
