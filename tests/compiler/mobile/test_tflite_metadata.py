"""What a TFLite file says of itself: TFLite Metadata, read back by another reader."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from documents import ROOT
from tiny_tflite import write_tiny

from edgeward.compiler.formats.tflite_metadata import About, metadata_of
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains.manager import Toolchains
from edgeward.runtimes.engines.litert_file import read_tflite
from edgeward.runtimes.engines.litert_flatbuffer import Table, root

LABELS = ("cat", "a dog\nof two lines")
SCRIPT = """
import sys
from pathlib import Path
from edgeward.compiler.formats.tflite_metadata import About, write_described
source, target, assets = map(Path, sys.argv[1:])
about = About("org/tiny", "mit", "image-classification", ("cat", "dog"), assets)
print(",".join(write_described(source, target, about)))
"""


def model() -> Any:
    """As far as names go, what the schema's reader gives of a classifier of pictures."""

    def port(name: bytes, index: int) -> Any:
        return SimpleNamespace(name=name, tensorIndex=index)

    signature = SimpleNamespace(
        inputs=[port(b"pixel_values", 3)],
        outputs=[port(b"logits", 5)],
        signatureKey=b"serving_default",
        subgraphIndex=0,
    )
    graph = SimpleNamespace(inputs=[3], outputs=[5])
    return SimpleNamespace(signatureDefs=[signature], subgraphs=[graph])


def read(assets: Path, files: dict[str, bytes]) -> Table:
    document = metadata_of(model(), About("org/tiny", "mit", "x", LABELS, assets), files)
    assert document[4:8] == b"M001"
    return root(memoryview(document))


def test_names_and_licence_are_told(tmp_path: Path) -> None:
    table = read(tmp_path, {})
    assert (table.text(0), table.text(5)) == ("org/tiny", "mit")
    (graph,) = table.tables(3)
    assert graph.text(0) == "serving_default"
    assert [one.text(0) for one in graph.tables(2)] == ["pixel_values"]
    assert [one.text(0) for one in graph.tables(3)] == ["logits"]
    assert graph.tables(3)[0].tables(6) == []


def test_labels_belong_to_the_logits(tmp_path: Path) -> None:
    (graph,) = read(tmp_path, {"labels.txt": b""}).tables(3)
    (named,) = graph.tables(3)[0].tables(6)
    assert (named.text(0), named.number(2, "b")) == ("labels.txt", 2)


def test_pixels_are_normalised_as_the_original_does(tmp_path: Path) -> None:
    settings = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.1]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    (graph,) = read(tmp_path, {}).tables(3)
    (pixels,) = graph.tables(2)
    (unit,) = pixels.tables(4)
    assert unit.number(0, "b") == 1
    options = unit.table(1)
    assert options is not None
    assert options.numbers(0, "f") == pytest.approx([127.5, 102.0, 76.5])
    assert options.numbers(1, "f") == pytest.approx([51.0, 51.0, 25.5])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_described_file_runs_as_before_and_carries_its_labels(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "a.tflite", {"serving_default": [2, 3], "b": [1, 3]})
    target = tmp_path / "b.tflite"
    told = run("litert", "-c", SCRIPT, source, target, tmp_path)
    assert told.strip() == "labels.txt"
    read_back = read_tflite(target)
    assert [one.name for one in read_back.signatures] == ["serving_default", "b"]
    assert "TFLITE_METADATA" in read_back.metadata
    with zipfile.ZipFile(target) as archive:
        (entry,) = archive.infolist()
        assert (entry.filename, entry.compress_type) == ("labels.txt", zipfile.ZIP_STORED)
        assert archive.read(entry) == b"cat\ndog\n"
    assert all(start % 16 == 0 for start in starts(target))
    calls = ROOT / "tests" / "support" / "litert_calls.py"
    for toolchain in ("litert-runtime", "tflite-runtime"):
        found = json.loads(run(toolchain, calls, target, "2x3"))
        assert found["values"] == [[3.0] * 6]


def starts(path: Path) -> list[int]:
    data = memoryview(path.read_bytes())
    assert struct.unpack_from("<4s", data, 4) == (b"TFL3",)
    places = [one.bytes(0) for one in root(data).tables(4)]
    return [start for start, size in places if size]


def run(toolchain: str, *arguments: object) -> str:
    python = Toolchains().ensure(toolchain, NullReporter()).python
    done = subprocess.run(
        [python, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
