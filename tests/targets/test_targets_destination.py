"""Where a profile is written: refused before anything is measured, lost by nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from typed import typed

from edgeward.errors import UsageError
from edgeward.targets.destination import destination, put

FULL = Path("/dev/full")


@pytest.fixture(autouse=True)
def _nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(_threads: int) -> None:
        pytest.fail("a machine was measured for a file that cannot be written")

    monkeypatch.setattr("edgeward.targets.calibrate.measure", measure)


@pytest.mark.parametrize(
    ("command", "file", "why"),
    [
        ("calibrate", "missing/mine.toml", "there is no folder"),
        ("calibrate", ".", "it is a folder"),
        ("probe", "missing/mine.toml", "there is no folder"),
    ],
)
def test_a_place_that_is_none_is_refused_first(
    tmp_path: Path, command: str, file: str, why: str
) -> None:
    done = typed("targets", command, "-o", tmp_path / file)
    assert (done.returncode, done.stdout) == (2, "")
    assert why in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_place_of_ones_own_that_cannot_be_made_is_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "edgeward").write_text("a file")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    done = typed("targets", "calibrate", "--name", "mine")
    assert done.returncode == 2
    assert "mine.toml cannot be written" in done.stderr
    assert typed("targets", "calibrate", "--name", "../mine").returncode == 2


@pytest.mark.skipif(not FULL.exists(), reason="no device is always full here")
def test_a_full_disk_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="cannot be written") as caught:
        put("measured = 1\n", FULL)
    assert capsys.readouterr().out == "measured = 1\n"
    assert "on standard output" in caught.value.why


def test_a_profile_is_replaced_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "kept.toml"
    path.write_text("old")
    link = tmp_path / "mine.toml"
    link.symlink_to(path)
    put("new", destination("mine", str(link)))
    assert (path.read_text(), link.is_symlink()) == ("new", True)
    assert f"written: {link}" in capsys.readouterr().err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["kept.toml", "mine.toml"]
