"""What is given to calibrate with and to prove on: taken as it is, or refused with a reason."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from documents import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from edgeward.compiler import given as given_module
from edgeward.compiler.given import check_labels, class_of, read_given, wanted_kind
from edgeward.compiler.given_data import PICTURES, SOUNDS, TEXTS
from edgeward.compiler.given_stage import given_stage, keep, kept_files
from edgeward.compiler.stage_context import StageContext
from edgeward.compiler.tasks import TASKS
from edgeward.errors import IntegrityError, UsageError

SEES, HEARS = TASKS["image-classification"], TASKS["ctc"]
READS, SORTS = TASKS["feature-extraction"], TASKS["text-classification"]
ODD = ("a b.png", "näß.PNG", "new\nline.png", os.fsdecode(b"not-utf8-\xff.png"), "~$(x);'.png")


def picture(path: Path, shade: int = 90) -> Path:
    Image.new("RGB", (8, 6), (shade, 20, 200)).save(path, format="PNG")
    return path


def wav(path: Path, seconds: float = 0.1, rate: int = 16_000, said: int | None = None) -> Path:
    data = bytes(2 * int(seconds * rate))
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, rate * 2, 2, 16)
    chunk = struct.pack("<4sI", b"data", len(data) if said is None else said)
    whole = b"WAVE" + form + chunk + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(whole)) + whole)
    return path


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def kept(folder: Path, data: Any) -> Path:
    """What the stage keeps."""
    spec = given_stage(data, "onnx")
    assert spec is not None
    out = folder / "out"
    out.mkdir()
    inputs = {name: one.path for name, one in spec.inputs.items()}
    keep(StageContext(inputs, out), spec.params)
    return out


def test_each_task_says_what_it_takes() -> None:
    assert {name: wanted_kind(spec) for name, spec in TASKS.items() if spec.modality != "text"} == {
        "question-answering": TEXTS,
        "automatic-speech-recognition": SOUNDS,
        "audio-classification": SOUNDS,
        "ctc": SOUNDS,
        **dict.fromkeys(
            [n for n in TASKS if "image" in n or TASKS[n].modality == "image"], PICTURES
        ),
    }


@pytest.mark.parametrize("spec", [SEES, HEARS, READS], ids=lambda spec: str(spec.name))
def test_another_kind_is_refused_with_what_is_wanted(tmp_path: Path, spec: Any) -> None:
    (tmp_path / "texts.txt").write_text("one\ntwo\nthree\n")
    (tmp_path / "empty").mkdir()
    places = {
        PICTURES: picture(tmp_path / "one.png"),
        SOUNDS: wav(tmp_path / "one.wav"),
        TEXTS: tmp_path / "texts.txt",
        "nothing": tmp_path / "empty",
    }
    assert read_given(places.pop(wanted_kind(spec)), spec).kind == wanted_kind(spec)
    for path in places.values():
        with pytest.raises(UsageError) as caught:
            read_given(path, spec)
        assert spec.name in caught.value.what
        assert caught.value.next.startswith("give ")


def test_a_folder_is_read_in_one_order_whatever_its_names(tmp_path: Path) -> None:
    for number, name in enumerate(reversed(ODD)):
        picture(tmp_path / name, number)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_text("no picture")
    found = read_given(tmp_path, SEES)
    assert [one.path.name for one in found.files] == sorted(ODD, key=os.fsencode)
    assert found.sha256 == read_given(tmp_path, SEES).sha256
    files = kept_files(kept(tmp_path, found), 10)
    assert [file.content for file in files] == [one.path.read_bytes() for one in found.files]
    assert all(file.name.isascii() for file in files)


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
    picture(one / "a.png")
    picture(other / "b.png")
    same = read_given(one, SEES).sha256
    assert same == read_given(other, SEES).sha256
    assert (
        same != read_given(lines(one / "x.jsonl", {"image": "a.png", "label": "cat"}), SEES).sha256
    )
    picture(other / "b.png", 91)
    assert same != read_given(other, SEES).sha256


def test_json_lines_name_files_labels_and_words(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "deep").mkdir()
    wav(tmp_path / "deep" / "b.wav")
    (seen,) = read_given(lines(tmp_path / "p.jsonl", {"image": "a.png", "label": 3}), SEES).files
    assert (seen.path, seen.label) == (tmp_path / "a.png", "3")
    told = {"audio": "deep/b.wav", "text": "one two"}
    (heard,) = read_given(lines(tmp_path / "s.jsonl", told), HEARS).files
    assert (heard.path.name, heard.words) == ("b.wav", "one two")


@pytest.mark.parametrize(
    "row",
    [
        {"image": "../out.png"},
        {"image": "/etc/passwd"},
        {"image": "link.png"},
        {"image": "sub/../../out.png"},
        {"image": "none.png"},
        {"image": "a\0b.png"},
        {"image": "x" * 5000},
        {"image": "sub"},
        {"image": "pipe.png"},
        {"image": "empty.png"},
        {"image": 7},
        {"image": "a.png", "label": [1]},
        {"image": "a.png", "label": True},
        {"image": "a.png", "label": "\ud800"},
        {"audio": "a.png"},
        {"image": "text.png"},
    ],
)
def test_a_line_that_leads_elsewhere_is_refused(tmp_path: Path, row: dict[str, Any]) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    picture(tmp_path / "out.png")
    picture(root / "a.png")
    (root / "link.png").symlink_to(tmp_path / "out.png")
    (root / "empty.png").touch()
    (root / "text.png").write_text("no picture")
    os.mkfifo(root / "pipe.png")
    with pytest.raises(UsageError):
        read_given(lines(root / "p.jsonl", row), SEES)
    if row.get("image") == "link.png":
        (root / "link.png").unlink()
        (root / "link.png").symlink_to(root / "a.png")
        assert len(read_given(root / "p.jsonl", SEES).files) == 1


def test_a_folder_with_a_link_out_of_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "in.png").symlink_to(picture(tmp_path / "out.png"))
    with pytest.raises(UsageError, match="leads out"):
        read_given(tmp_path / "root", SEES)


def test_more_than_fits_is_cut_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        picture(tmp_path / f"{number}.png", number)
    monkeypatch.setattr(given_module, "MAX_FILES", 3)
    assert [one.path.name[0] for one in read_given(tmp_path, SEES).files] == ["0", "1", "2"]
    size = (tmp_path / "0.png").stat().st_size
    monkeypatch.setattr(given_module, "MAX_TOTAL_BYTES", 2 * size)
    with pytest.raises(UsageError, match="more than"):
        read_given(tmp_path, SEES)
    monkeypatch.setattr(given_module, "MAX_FILE_BYTES", size - 1)
    with pytest.raises(UsageError, match="cannot be taken"):
        read_given(tmp_path, SEES)
    monkeypatch.setattr(given_module, "_MAX_LISTED", 4)
    with pytest.raises(UsageError, match="entries"):
        read_given(tmp_path, SEES)


def test_headers_that_lie_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="lasts 61 s"):
        read_given(wav(tmp_path / "long.wav", 61, 1000), HEARS)
    assert read_given(wav(tmp_path / "more.wav", said=1 << 31), HEARS).files
    for spoil in (b"RIFF", b"RIFFxxxxWAVE", b"not a sound at all"):
        (tmp_path / "bad.wav").write_bytes(spoil)
        with pytest.raises(UsageError, match="WAV"):
            read_given(tmp_path / "bad.wav", HEARS)


def test_a_broken_picture_and_a_bomb_are_refused_before_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = picture(tmp_path / "half.png").read_bytes()[:45]
    (tmp_path / "half.png").write_bytes(half)
    with pytest.raises(UsageError, match="cannot be read as a picture"):
        kept(tmp_path, read_given(tmp_path / "half.png", SEES))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    (tmp_path / "again").mkdir()
    with pytest.raises(UsageError, match="decompression bomb"):
        kept(tmp_path / "again", read_given(picture(tmp_path / "bomb.png"), SEES))


def test_a_file_that_changes_meanwhile_is_told(tmp_path: Path) -> None:
    data = read_given(picture(tmp_path / "a.png"), SEES)
    picture(tmp_path / "a.png", 91)
    with pytest.raises(UsageError, match="changed"):
        kept(tmp_path, data)


def test_a_kept_folder_that_is_damaged_is_told(tmp_path: Path) -> None:
    assert kept_files(None, 5) == []
    out = kept(tmp_path, read_given(picture(tmp_path / "a.png"), SEES))
    (out / "0000").unlink()
    with pytest.raises(IntegrityError, match="damaged"):
        kept_files(out, 5)


def test_labels_are_those_of_the_model(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    labels = ("cat", "dog")
    for label in ("dog", 1, "0", ""):
        data = read_given(lines(tmp_path / "p.jsonl", {"image": "a.png", "label": label}), SEES)
        check_labels(data, SEES, labels)
    for label in ("horse", 2, "-1", "९"):
        data = read_given(lines(tmp_path / "p.jsonl", {"image": "a.png", "label": label}), SEES)
        with pytest.raises(UsageError, match="no class"):
            check_labels(data, SEES, labels)
    assert (class_of("3", ()), class_of("dog", ())) == (3, None)
    assert (class_of("dog", labels), class_of("1", labels), class_of("7", labels)) == (1, 1, None)


def test_pairs_are_taken_by_tasks_that_read_two_texts(tmp_path: Path) -> None:
    rows = [{"text": f"q{n}", "text_pair": f"a{n}"} for n in range(3)]
    found = read_given(lines(tmp_path / "pairs.jsonl", *rows), SORTS)
    assert found.texts[1] == ("q1", "a1")
    with pytest.raises(UsageError, match="cannot be read as texts"):
        read_given(tmp_path / "pairs.jsonl", READS)
    with pytest.raises(UsageError, match="beside single"):
        read_given(lines(tmp_path / "mixed.jsonl", *rows, {"text": "alone"}), SORTS)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=80)
    | st.dictionaries(
        st.sampled_from(["image", "audio", "label", "text"]), st.text(max_size=9)
    ).map(lambda row: json.dumps(row).encode()),
    spec=st.sampled_from([SEES, HEARS]),
)
def test_any_json_lines_are_files_or_refused(tmp_path: Path, content: bytes, spec: Any) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "any.jsonl").write_bytes(content)
    try:
        found = read_given(tmp_path / "any.jsonl", spec)
    except UsageError:
        return
    assert all(one.path.is_relative_to(tmp_path) for one in found.files)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 90), spoil=st.binary(min_size=1, max_size=12))
def test_any_wav_is_a_sound_or_refused(tmp_path: Path, cut: int, spoil: bytes) -> None:
    path = wav(tmp_path / "one.wav", 0.01)
    whole = bytearray(path.read_bytes())
    whole[cut : cut + len(spoil)] = spoil
    path.write_bytes(whole)
    try:
        found = read_given(path, HEARS)
    except UsageError:
        return
    assert np.isfinite(len(found.files))


def test_the_packaged_pictures_are_those_that_the_script_renders(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, ROOT / "tests" / "support" / "render_pictures.py", tmp_path], check=True
    )
    packaged = sorted((ROOT / "compiler" / "data" / "pictures").glob("*.png"))
    assert [path.name for path in packaged] == sorted(path.name for path in tmp_path.iterdir())
    for path in packaged:
        one, other = Image.open(path), Image.open(tmp_path / path.name)
        assert np.array_equal(np.asarray(one.convert("RGB")), np.asarray(other.convert("RGB")))
        assert one.getexif() == other.getexif()
