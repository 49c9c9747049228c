"""`edgeward compile` as it is typed, as far as it gets before any work: hubs, refusals, codes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from model_folder import write_model
from small_hub import COMMIT, small_hub
from typed import Done, typed

FAILED, USAGE = 1, 2
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


def compile_(model: str | Path, *more: str, target: str = "kiosk-x86") -> Done:
    return typed("compile", model, "--target", target, "--dry-run", "--report", "json", *more)


def compile_alone(model: str, **settings: str) -> Done:
    """The hub's client reads its settings once: a process of its own."""
    words = ["compile", model, "--target", "kiosk-x86", "--dry-run", "--report", "json"]
    done = subprocess.run(
        [sys.executable, "-m", "edgeward", *words],
        env={**os.environ, **settings}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def cached(model: Path, home: Path) -> Path:
    """Lay a folder out as the hub's client does: each file a link to a blob."""
    repository = home / "hub" / "models--org--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "blobs").mkdir()
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(model.iterdir())):
        shutil.copyfile(path, repository / "blobs" / f"{number:040}")
        (snapshot / path.name).symlink_to(f"../../blobs/{number:040}")
    return snapshot


def told(done: Done, code: int) -> str:
    """The refusal's words: the right code, nothing on stdout, no traceback."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert re.search(r"^(error|Usage|Error): ", done.stderr, re.MULTILINE), done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_dry_run_says_what_would_be_made_and_makes_nothing(model: Path, tmp_path: Path) -> None:
    done = compile_(model, "-p", "fp32,default", "-o", str(tmp_path / "build"))
    assert [row["bundle"] for row in json.loads(done.stdout)] == [
        "model-kiosk-x86-fp32",
        "model-kiosk-x86-int8-dynamic",
    ]
    assert not (tmp_path / "build").exists()


def test_what_a_target_takes_otherwise_is_for_models_that_its_format_does_not(
    model: Path, tmp_path: Path
) -> None:
    writer = write_model(
        tmp_path / "writer", architectures=["LlamaForCausalLM"], model_type="llama"
    )
    for folder, given, made in (
        (model, (), "model-t4-fp16"),
        (model, ("-p", "fp32"), "model-t4-fp32"),
        (model, ("--format", "onnx"), "model-t4-fp16"),
        (writer, (), "writer-t4-w8a8"),
        (writer, ("--format", "onnx"), "writer-t4-fp16"),
    ):
        done = compile_(folder, *given, target="t4")
        assert done.returncode == 0, done.stderr
        assert [row["bundle"] for row in json.loads(done.stdout)] == [made]
    refused = told(compile_(writer, "-p", "fp16", target="t4"), USAGE)
    assert "compressed has no precision 'fp16'" in refused
    assert "Next: --format onnx or --format gguf\n" in refused


def test_a_hub_id_resolves_from_the_hubs_cache(model: Path, tmp_path: Path) -> None:
    cached(model, tmp_path / "hf")
    done = compile_alone("org/tiny", HF_HOME=str(tmp_path / "hf"), HF_HUB_OFFLINE="1")
    assert [row["bundle"] for row in json.loads(done.stdout)] == ["tiny-kiosk-x86-int8-dynamic"]


def test_a_cached_file_that_links_elsewhere_is_refused(model: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("{}")
    tokenizer = cached(model, tmp_path / "hf") / "tokenizer.json"
    tokenizer.unlink()
    tokenizer.symlink_to(secret)
    done = compile_alone("org/tiny", HF_HOME=str(tmp_path / "hf"), HF_HUB_OFFLINE="1")
    assert "leads out" in told(done, FAILED)


def test_a_hub_id_is_downloaded(model: Path, tmp_path: Path) -> None:
    with small_hub(model) as hub:
        done = compile_alone("org/tiny", HF_HOME=str(tmp_path), HF_ENDPOINT=hub.url)
    assert json.loads(done.stdout)
    assert not [path for path in hub.asked if not path.startswith(("/api/models/", "/org/tiny/"))]
    assert sorted(hub.fetched) == ["config.json", "model.safetensors", "tokenizer.json"]


def test_the_weights_of_an_unsupported_model_are_not_downloaded(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m", model_type="mamba", architectures=["MambaModel"])
    with small_hub(model) as hub:
        done = compile_alone("org/tiny", HF_HOME=str(tmp_path), HF_ENDPOINT=hub.url)
    said = told(done, FAILED)
    assert "MambaModel" in said
    assert "modernbert" in said
    assert hub.fetched == ["config.json"]


@pytest.mark.parametrize(
    "nonsense", [(200, b"{}"), (200, b"[]"), (200, b"\xff"), (404, b""), (401, b"{}")], ids=str
)
def test_a_hub_that_answers_nonsense_is_told(
    model: Path, tmp_path: Path, nonsense: tuple[int, bytes]
) -> None:
    with small_hub(model, nonsense) as hub:
        done = compile_alone("org/tiny", HF_HOME=str(tmp_path), HF_ENDPOINT=hub.url)
    assert "could not be downloaded" in told(done, FAILED)


@pytest.mark.parametrize("offline", ["0", "1"])
def test_without_a_network_it_says_what_to_run(tmp_path: Path, offline: str) -> None:
    done = compile_alone(
        "org/tiny", HF_HOME=str(tmp_path), HF_ENDPOINT=NOWHERE, HF_HUB_OFFLINE=offline
    )
    assert "Next: check the name and the network, or: edgeward compile ./tiny" in told(done, FAILED)


def test_an_unknown_target_names_those_that_are(model: Path) -> None:
    said = told(compile_(model, target="toaster"), USAGE)
    assert "toaster" in said
    assert "edgeward targets list" in said


def test_an_unknown_precision_names_those_that_are(model: Path) -> None:
    assert "int8-dynamic" in told(compile_(model, "-p", "int3"), 2)


@pytest.mark.parametrize("limit", ["--max-seconds=0", "--max-seconds=inf", "--max-memory-gib=nan"])
def test_limits_out_of_range_are_usage_errors(model: Path, limit: str) -> None:
    told(compile_(model, limit), USAGE)


def test_a_folder_that_cannot_name_a_bundle_asks_for_a_name(tmp_path: Path) -> None:
    model = write_model(tmp_path / "two words")
    assert "--name" in told(compile_(model), USAGE)
    assert compile_(model, "--name", "one").returncode == 0


def test_what_stands_in_the_bundles_place_is_kept(model: Path, tmp_path: Path) -> None:
    place = tmp_path / "build" / "model-kiosk-x86-int8-dynamic"
    place.mkdir(parents=True)
    (place / "thesis.txt").write_text("years")
    assert "not a bundle" in told(compile_(model, "-o", str(place.parent)), USAGE)
    below = compile_(model, "-o", str(place / "thesis.txt" / "build"))
    assert "is a file" in told(below, USAGE)
    assert (place / "thesis.txt").read_text() == "years"
