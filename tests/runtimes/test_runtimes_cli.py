"""`edgeward verify` and `inspect` as a user types them."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typed import typed

from edgeward.runtimes.bundle.read import Bundle


def test_a_good_bundle_passes(tiny_bundle: Bundle) -> None:
    done = typed("verify", tiny_bundle.path, "-o", "json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert {row["metric"] for row in rows} == {"cosine_min", "token_ids_equal"}
    assert all(row["passed"] for row in rows)
    assert rows[0]["engine"].startswith("onnxruntime")


def test_perturbed_weights_fall_short(make_bundle: Any) -> None:
    done = typed("verify", make_bundle("spoiled", noise=2.0).path)
    assert done.returncode == 3
    assert "cosine_min" in done.stderr
    assert "cosine_min" in done.stdout
    assert "Traceback" not in done.stderr


def test_one_bad_bundle_among_good_ones_is_named(tiny_bundle: Bundle, make_bundle: Any) -> None:
    spoiled = make_bundle("spoiled", noise=2.0)
    done = typed("verify", tiny_bundle.path, spoiled.path, "-o", "csv")
    assert done.returncode == 3
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert {row["bundle"] for row in rows} == {"tiny", "spoiled"}
    assert "spoiled" in done.stderr
    assert "tiny" not in done.stderr


def test_another_tokenizer_falls_short(make_bundle: Any) -> None:
    bundle = make_bundle("other")
    cases = bundle.path / "golden" / "cases.json"
    document = json.loads(cases.read_text())
    text = json.dumps(document).replace("gate", "noon")
    cases.write_text(text)
    repair(bundle.path)
    assert typed("verify", bundle.path).returncode == 3


def repair(bundle: Path) -> None:
    """Write digests that fit: nothing but running it shows the harm."""
    from edgeward.runtimes.bundle.read import sha256_of

    document = json.loads((bundle / "manifest.json").read_text())
    for entry in document["files"]:
        path = bundle / entry["path"]
        entry.update(size=path.stat().st_size, sha256=sha256_of(path))
    (bundle / "manifest.json").write_text(json.dumps(document))


def test_damage_is_told_in_words(make_bundle: Any) -> None:
    bundle = make_bundle("damaged")
    bundle.entry.write_bytes(bundle.entry.read_bytes()[:-1])
    for verb in ("verify", "inspect"):
        done = typed(verb, bundle.path)
        assert done.returncode == 1
        assert "onnx/model.onnx" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", ["verify", "inspect", "serve"])
def test_there_is_no_bundle_there(verb: str, tmp_path: Path) -> None:
    done = typed(verb, tmp_path / "nowhere")
    assert done.returncode == 1
    assert "No bundle at" in done.stderr
    assert "edgeward compile" in done.stderr


def test_inspect_shows_what_the_manifest_claims(tiny_bundle: Bundle) -> None:
    table = typed("inspect", tiny_bundle.path)
    assert table.returncode == 0
    for words in ("x86-64-cpu", "fp32", "feature-extraction", "engine"):
        assert words in table.stdout
    document = json.loads(typed("inspect", tiny_bundle.path, "-o", "json").stdout)
    assert document["digest"] == tiny_bundle.digest
    assert document["entry"] == "onnx/model.onnx"


@pytest.mark.parametrize(
    "words",
    [["verify"], ["verify", "x", "-o", "yaml"], ["inspect"], ["frobnicate"], ["verify", "--what"]],
)
def test_wrong_usage_is_code_2(words: list[str]) -> None:
    done = typed(*words)
    assert done.returncode == 2
    assert "Usage" in done.stderr
    assert done.stdout == ""


def test_the_selftest_prints_one_json_object(tiny_bundle: Bundle, make_bundle: Any) -> None:
    def run(bundle: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edgeward.runtimes.selftest", str(bundle)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    good = run(tiny_bundle.path)
    assert good.returncode == 0
    assert json.loads(good.stdout)["passed"] is True
    bad = run(make_bundle("spoiled", noise=2.0).path)
    assert bad.returncode == 3
    assert json.loads(bad.stdout)["passed"] is False


def test_a_hostile_name_cannot_drive_the_terminal(make_bundle: Any) -> None:
    bundle = make_bundle("hostile")
    (bundle.path / "\x1b[2Jgone").write_text("")
    done = typed("inspect", bundle.path)
    assert done.returncode == 1
    assert "\\x1b[2Jgone" in done.stderr
    assert "\x1b" not in done.stderr
