"""`edgeward bench --data`: pictures and sounds, and files that are neither."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_writer
from bench_bundles import writer_bundle
from PIL import Image
from task_bundles import FRAME, RATE, colours, listener, say
from tiny_decoder import byte_tokenizer
from typed import typed

from edgeward.errors import UsageError
from edgeward.runtimes.bundle.read import Bundle
from edgeward.runtimes.session import load
from edgeward.targets.bench.request import Request
from edgeward.targets.bench.store import VARIABLE
from edgeward.targets.bench.worker import workload_of

SHORT = ("--min-queries", "3", "--min-duration", "0", "--threads", "1", "--target", "x86-64-cpu")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Bundle]:
    folder = tmp_path_factory.mktemp("bench")
    makers = {"pictures": colours, "sounds": listener, "writer": writer_bundle}
    return {name: make(folder / name) for name, make in makers.items()}


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "bench.sqlite"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def record(*arguments: object) -> dict[str, Any]:
    done = typed("bench", *arguments, *SHORT, "-o", "json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def png() -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.full((40, 30, 3), 90, np.uint8)).save(content, "PNG")
    return content.getvalue()


def silence(samples: int) -> bytes:
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    return (
        b"RIFF\0\0\0\0WAVE" + form + struct.pack("<4sI", b"data", 2 * samples) + bytes(2 * samples)
    )


def test_a_picture_is_measured_as_it_is_fed(bundles: Mapping[str, Bundle], tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(png())
    found = record(bundles["pictures"].path, "--data", tmp_path / "one.png", "--batch", "2")
    assert (found["what"], found["batch"], found["n_prompt"]) == ("prepared", 2, 0)
    assert "real_time_factor" not in found
    assert found["throughput_per_s"] * found["duration_s"] == pytest.approx(2 * 3)


def test_a_waveform_has_its_real_time_factor(bundles: Mapping[str, Bundle], tmp_path: Path) -> None:
    text = "ab ba"
    found = record(bundles["sounds"].path, "--data", say(tmp_path / "said.wav", text))
    seconds = 2 * len(text) * FRAME / RATE
    assert found["sound_seconds"] == pytest.approx(seconds)
    assert found["real_time_factor"] == pytest.approx(found["served_p50_ms"] / 1e3 / seconds)


def test_what_is_written_ends_where_no_number_is_told(tmp_path: Path) -> None:
    source = byte_tokenizer().encode("gate b12").ids
    written = [tiny_writer.START]
    for _ in range(5):
        written.append(tiny_writer.following(source, written))
    assert len(set(written)) == len(written)
    writer = writer_bundle(tmp_path / "writer", eos_token_id=written[-1])
    (tmp_path / "texts.txt").write_text("gate b12\n")
    asked = (writer.path, "--data", tmp_path / "texts.txt")
    assert record(*asked)["n_gen"] == 5
    assert record(*asked, "--gen", "70")["n_gen"] == 70


@pytest.mark.parametrize(
    ("bundle", "name", "content", "words"),
    [
        ("pictures", "text.txt", b"a line\n", "in no format that Pillow reads"),
        ("pictures", "empty.png", b"", "in no format that Pillow reads"),
        ("pictures", "cut.png", png()[:60], "truncated|broken|no format"),
        ("sounds", "text.txt", b"a line\n", "not a RIFF/WAVE file"),
        ("sounds", "empty.wav", silence(0), "not empty"),
        ("sounds", "cut.wav", silence(100)[:30], "no samples|requires a buffer"),
        ("writer", "picture.png", png(), "reads a .txt or .jsonl file"),
    ],
)
def test_a_file_of_another_kind_is_named_in_words(
    bundles: Mapping[str, Bundle],
    tmp_path: Path,
    bundle: str,
    name: str,
    content: bytes,
    words: str,
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with (
        load(bundles[bundle], threads=1) as session,
        pytest.raises(UsageError, match=words) as told,
    ):
        workload_of(session, Request(str(bundles[bundle].path), data=str(path)))
    assert str(path) in told.value.what
    assert " at 0x" not in str(told.value)


@pytest.mark.parametrize(
    ("bundle", "asked"),
    [("pictures", {"prompt": 3}), ("writer", {"prompt": 3}), ("writer", {"batch": 2})],
)
def test_what_a_bundle_has_not_is_not_measured(
    bundles: Mapping[str, Bundle], tmp_path: Path, bundle: str, asked: Mapping[str, int]
) -> None:
    (tmp_path / "one.png").write_bytes(png())
    data = str(tmp_path / "one.png") if bundle == "pictures" else None
    with (
        load(bundles[bundle], threads=1) as session,
        pytest.raises(UsageError, match=r"reads no text|as long as it is"),
    ):
        workload_of(session, Request(str(bundles[bundle].path), data=data, **asked))
