"""The plan before a compile: what a target does not hold is refused before any work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from minimal_profile import MINIMAL
from model_folder import write_model
from proved_job import PROOF_TEXTS, job, proved
from safetensors.numpy import save_file
from typed import Done, typed

from edgeward.compiler.foresight import Foresight, figures_of, foresee
from edgeward.compiler.formats.base import Job
from edgeward.compiler.package import package
from edgeward.compiler.source import read_source

DOES_NOT_FIT = 4


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """16 M parameters: 64 MiB as they are, 16 MiB in eight bits."""
    folder = write_model(tmp_path / "model")
    save_file({"w": np.ones((4096, 4096), np.float32)}, folder / "model.safetensors")
    return folder


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Makes a target of one's own with so much memory."""
    targets = tmp_path / "targets"
    targets.mkdir()
    monkeypatch.setenv("EDGEWARD_TARGETS_PATH", str(targets))

    def make(memory: str) -> str:
        text = MINIMAL.replace('usable_memory = "3 GiB"', f'usable_memory = "{memory}"')
        (targets / "board.toml").write_text(text)
        return "board"

    return make


def compile_(model: Path, target: str, *more: str) -> Done:
    words = ("compile", model, "--target", target, "--dry-run", "--report", "json")
    return typed(*words, *more)


def test_what_the_device_does_not_hold_is_refused_before_work(
    model: Path, board: Callable[[str], str]
) -> None:
    done = compile_(model, board("140 MiB"), "-p", "fp32")
    assert (done.returncode, done.stdout) == (DOES_NOT_FIT, "")
    assert "does not fit board" in done.stderr
    assert "of 0.137 GiB" in done.stderr
    assert "--format onnx --precision int8-dynamic" in done.stderr
    assert compile_(model, "board", "-p", "int8-dynamic").returncode == 0
    assert compile_(model, "board", "-p", "fp32", "--ignore-plan").returncode == 0
    assert compile_(model, board("3 GiB"), "-p", "fp32").returncode == 0


def test_a_search_goes_on_with_what_fits(model: Path, board: Callable[[str], str]) -> None:
    done = compile_(model, board("140 MiB"), "-p", "auto")
    assert [row["precision"] for row in json.loads(done.stdout)] == ["int8-dynamic"]
    assert "fp32 is not tried: it needs" in done.stderr
    assert compile_(model, board("100 MiB"), "-p", "auto").returncode == DOES_NOT_FIT


def test_the_disk_counts_too(model: Path, tmp_path: Path, board: Callable[[str], str]) -> None:
    place = tmp_path / "targets" / f"{board('3 GiB')}.toml"
    place.write_text(place.read_text().replace("memory = ", 'disk = "40 MiB"\nmemory = ', 1))
    done = compile_(model, "board", "-p", "fp32")
    assert done.returncode == DOES_NOT_FIT
    assert "of 40 MiB of disk" in done.stderr


def test_a_model_that_no_plan_reads_is_compiled(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", hidden_size="eight")
    source = read_source(model, "tiny", "", None)
    assert foresee(source) == Foresight(None)
    assert compile_(model, "kiosk-x86").returncode == 0


def test_the_manifest_says_what_was_predicted(model: Path, tmp_path: Path) -> None:
    made: Job = job()
    predicted = figures_of(foresee(read_source(model, "tiny", "", None)).of(made))
    assert predicted["peak_memory_bytes"] > predicted["disk_bytes"] > 64 * 2**20
    shown = proved(tmp_path / "stages", made)
    bundle, _ = package(shown, "tiny", PROOF_TEXTS, tmp_path / "bundle", (), predicted)
    assert bundle.manifest.performance.predicted == predicted
