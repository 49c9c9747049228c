"""Writing a bundle: whole or not at all, over whatever stood there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from documents import ROOT

from edgeward.errors import BundleError, ManifestError, UnsafePathError, UsageError
from edgeward.runtimes.bundle import replace
from edgeward.runtimes.bundle.manifest import MANIFEST_NAME
from edgeward.runtimes.bundle.read import Bundle, open_bundle
from edgeward.runtimes.bundle.schema import manifest_json_schema, schema_text
from edgeward.runtimes.bundle.write import writing_bundle

COPY = """
import sys, json, time
from pathlib import Path
from edgeward.runtimes.bundle.read import open_bundle
from edgeward.runtimes.bundle.write import writing_bundle
good = open_bundle(sys.argv[1])
with writing_bundle(Path(sys.argv[2])) as writer:
    for entry in good.manifest.files:
        writer.add(entry.path, good.path / entry.path)
    document = json.loads((good.path / "manifest.json").read_text())
    writer.write_manifest({**document, "name": sys.argv[3]})
    print("written", flush=True)
    time.sleep(float(sys.argv[4]))
"""


def copy_command(good: Bundle, place: Path, name: str, pause: float = 0.0) -> list[str]:
    return [sys.executable, "-c", COPY, str(good.path), str(place), name, str(pause)]


def names_there(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_written_bundle_replaces_the_one_before(tiny_bundle: Bundle, tmp_path: Path) -> None:
    place = tmp_path / "b"
    for name in ("first", "second"):
        subprocess.run(copy_command(tiny_bundle, place, name), check=True, capture_output=True)
        assert open_bundle(place).manifest.name == name
    assert names_there(tmp_path) == ["b"]


def test_an_exception_leaves_what_was_there(tiny_bundle: Bundle, tmp_path: Path) -> None:
    place = Path(shutil.copytree(tiny_bundle.path, tmp_path / "b"))
    with pytest.raises(ZeroDivisionError), writing_bundle(place) as writer:
        writer.add_bytes("new.txt", b"new")
        raise ZeroDivisionError
    assert open_bundle(place).digest == tiny_bundle.digest
    assert names_there(tmp_path) == ["b"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_writer_leaves_the_old_one(
    tiny_bundle: Bundle, tmp_path: Path, number: signal.Signals
) -> None:
    place = Path(shutil.copytree(tiny_bundle.path, tmp_path / "b"))
    writer = subprocess.Popen(
        copy_command(tiny_bundle, place, "new", 60), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"written\n"
    writer.send_signal(number)
    writer.communicate()
    assert open_bundle(place).digest == tiny_bundle.digest
    subprocess.run(copy_command(tiny_bundle, place, "new"), check=True, capture_output=True)
    assert open_bundle(place).manifest.name == "new"
    assert names_there(tmp_path) == ["b"]


def test_kills_at_any_moment_leave_one_whole(tiny_bundle: Bundle, tmp_path: Path) -> None:
    place = Path(shutil.copytree(tiny_bundle.path, tmp_path / "b"))
    for number in range(6):
        writer = subprocess.Popen(
            copy_command(tiny_bundle, place, f"n{number}"),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.0005 * number)
        writer.kill()
        writer.communicate()
        assert open_bundle(place).digest


def test_between_two_renames_the_old_one_is_brought_back(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Path(shutil.copytree(tiny_bundle.path, tmp_path / "b"))
    new = Path(shutil.copytree(tiny_bundle.path, tmp_path / "new"))
    monkeypatch.setattr(replace, "exchange", lambda *_: False)
    renames: list[Path] = []
    rename = Path.rename

    def dies_at_the_second(self: Path, target: Path) -> Path:
        renames.append(self)
        if len(renames) == 2:
            raise SystemExit("as a kill would")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", dies_at_the_second)
    with pytest.raises(SystemExit):
        replace.replace_folder(new, place)
    monkeypatch.undo()
    assert open_bundle(place).digest == tiny_bundle.digest
    place.rename(replace.set_aside(place))
    with pytest.raises(BundleError, match="No bundle at") as caught:
        open_bundle(place)
    assert caught.value.next.startswith("mv ")
    replace.heal(place)
    assert open_bundle(place).digest == tiny_bundle.digest


def test_the_digest_is_the_contents_alone(tiny_bundle: Bundle, tmp_path: Path) -> None:
    place = Path(shutil.copytree(tiny_bundle.path, tmp_path / "copy"))
    for path in place.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    assert open_bundle(place).digest == tiny_bundle.digest


@pytest.mark.parametrize("content", [{"notes.txt": b"mine"}, {MANIFEST_NAME: b'{"name": "pwa"}'}])
def test_what_is_not_a_bundle_is_never_replaced(tmp_path: Path, content: dict[str, bytes]) -> None:
    place = tmp_path / "mine"
    place.mkdir()
    for name, data in content.items():
        (place / name).write_bytes(data)
    with pytest.raises(UsageError, match="not a bundle"), writing_bundle(place):
        pass
    assert {path.name: path.read_bytes() for path in place.iterdir()} == content


def test_a_file_in_the_way_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("mine")
    with pytest.raises(UsageError), writing_bundle(tmp_path / "b"):
        pass
    assert (tmp_path / "b").read_text() == "mine"


@pytest.mark.parametrize("name", ["../out", "/etc/x", MANIFEST_NAME, "a\x00", "con"])
def test_a_file_cannot_be_put_outside(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsafePathError), writing_bundle(tmp_path / "b") as writer:
        writer.add_bytes(name, b"")
    assert names_there(tmp_path) == []


def test_a_manifest_that_no_reader_would_take_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ManifestError), writing_bundle(tmp_path / "b") as writer:
        writer.write_manifest({"schema_version": "1.0"})
    with pytest.raises(ManifestError), writing_bundle(tmp_path / "b") as writer:
        writer.write_manifest({"schema_version": float("nan")})
    assert names_there(tmp_path) == []


def test_a_bundle_without_a_manifest_is_not_put_in_place(tmp_path: Path) -> None:
    with pytest.raises(ManifestError), writing_bundle(tmp_path / "b") as writer:
        writer.add_bytes("x", b"")
    assert names_there(tmp_path) == []


def test_a_full_disk_is_told_and_the_old_one_kept(tiny_bundle: Bundle, tmp_path: Path) -> None:
    place = Path(shutil.copytree(tiny_bundle.path, tmp_path / "b"))
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))\n"
    command = copy_command(tiny_bundle, place, "new")
    command[2] = limited + command[2]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "BundleError" in done.stderr
    assert "could not be written" in done.stderr
    assert open_bundle(place).digest == tiny_bundle.digest
    assert names_there(tmp_path) == ["b"]


def test_a_place_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(BundleError, match="could not be written"),
        writing_bundle(tmp_path / "file" / "b"),
    ):
        pass


def test_the_published_schema_is_the_codes() -> None:
    published = (ROOT / "docs" / "manifest.schema.json").read_text()
    assert published == schema_text(), "python -m edgeward.runtimes.bundle.schema > docs/…"
    required = set(manifest_json_schema()["required"])
    assert {"schema_version", "files", "entry", "proof", "source", "target", "recipe"} <= required
