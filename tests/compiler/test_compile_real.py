"""A real model through the real command: bundles, their proof, interruptions, limits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from fresh_cache import fresh_cache
from real_model import minilm

from edgeward.runtimes import load
from edgeward.runtimes.bundle.read import open_bundle
from edgeward.runtimes.proof.golden import read_cases

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
OPSET_OF_JETPACK_6 = 23
TEXTS = ["Where is gate B12?", "The lift is out of order.", "東京はどこですか"]


class Desk:
    """A folder to compile in, with a stage cache of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.build = folder, folder / "build"
        self.cache = fresh_cache(folder / "cache")
        self.environment = {**os.environ, "EDGEWARD_CACHE": str(self.cache), "OMP_NUM_THREADS": "1"}

    def command(self, *more: str, precisions: str = "fp32") -> list[str]:
        base = [sys.executable, "-m", "edgeward", "compile", str(minilm()), "--target"]
        return [*base, "x86-64-cpu", "-p", precisions, "-o", str(self.build), *more]

    def run(self, *more: str, precisions: str = "fp32") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*more, precisions=precisions),
            env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def start(self, *more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*more),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def artifacts(self) -> dict[str, int]:
        """Which file each finished stage left: a stage that ran again would have made new ones."""
        left = (self.cache / "stages").glob("*/out/**/*")
        return {str(path): path.stat().st_ino for path in left if path.is_file()}

    def made(self) -> list[str]:
        return sorted(p.name for p in self.build.iterdir()) if self.build.exists() else []


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, list[dict[str, Any]]]]:
    desk = Desk(tmp_path_factory.mktemp("both"))
    done = desk.run("-t", "jetson-orin-nano", "--report", "json", precisions="fp32,int8-dynamic")
    assert done.returncode == 0, done.stderr
    yield desk, json.loads(done.stdout)


def test_each_target_has_its_proved_bundles(both: tuple[Desk, list[dict[str, Any]]]) -> None:
    _, rows = both
    assert [(row["target"], row["precision"]) for row in rows] == [
        ("x86-64-cpu", "fp32"),
        ("x86-64-cpu", "int8-dynamic"),
        ("jetson-orin-nano", "fp32"),
        ("jetson-orin-nano", "int8-dynamic"),
    ]
    for row in rows:
        manifest = open_bundle(row["path"]).manifest
        assert manifest.proof.verified == "engine"
        assert manifest.proof.untraced_shapes
        assert manifest.source.weights_sha256
        assert manifest.performance.measured["latency_p50_ms"] > 0
        assert row["cosine"] > (0.99999 if row["precision"] == "fp32" else 0.98)
    assert rows[1]["mib"] < rows[0]["mib"] / 3


def test_the_jetsons_bundle_ran_in_the_jetsons_engine(
    both: tuple[Desk, list[dict[str, Any]]],
) -> None:
    _, rows = both
    for row in rows[2:]:
        bundle = open_bundle(row["path"])
        engine = bundle.manifest.proof.engine
        assert engine is not None
        assert engine.version == "1.23.2"
        assert bundle.manifest.proof.pending_on_target
        opsets = {o.domain: o.version for o in onnx.load(bundle.entry).opset_import}
        assert opsets[""] <= OPSET_OF_JETPACK_6


def test_a_bundle_embeds_as_the_original(both: tuple[Desk, list[dict[str, Any]]]) -> None:
    _, rows = both
    with load(rows[0]["path"]) as exact, load(rows[1]["path"]) as quantised:
        cases = read_cases(exact.bundle.path)
        np.testing.assert_allclose(exact.embed(cases.texts), cases.vectors, atol=1e-4)
        cosine = (exact.embed(TEXTS) * quantised.embed(TEXTS)).sum(axis=1)
        assert (cosine > 0.95).all()
        assert not np.array_equal(exact.embed(TEXTS), quantised.embed(TEXTS))


def test_verify_proves_it_again(both: tuple[Desk, list[dict[str, Any]]]) -> None:
    _, rows = both
    command = [sys.executable, "-m", "edgeward", "verify", rows[1]["path"]]
    assert subprocess.run(command, check=False).returncode == 0


def test_a_second_run_does_nothing_again(both: tuple[Desk, list[dict[str, Any]]]) -> None:
    desk, rows = both
    before = desk.artifacts()
    again = desk.run(
        "-t", "jetson-orin-nano", "--report", "json", precisions="fp32,int8-dynamic"
    )  # fmt: skip
    assert json.loads(again.stdout) == rows
    assert desk.artifacts() == before


def test_perturbed_weights_fall_short_and_are_not_packaged(
    both: tuple[Desk, list[dict[str, Any]]], tmp_path: Path
) -> None:
    desk, _ = both
    other = Desk(tmp_path / "desk")
    done = other.run()
    assert done.returncode == 0
    perturb(other)
    fallen = other.run("-o", str(tmp_path / "fallen"))
    assert fallen.returncode == 3, fallen.stderr
    assert "cosine_mean" in fallen.stderr
    assert "--accept-degraded" in fallen.stderr
    assert not (tmp_path / "fallen").exists() or not any((tmp_path / "fallen").iterdir())
    taken = other.run("-o", str(tmp_path / "taken"), "--accept-degraded")
    assert taken.returncode == 0
    (bundle,) = (tmp_path / "taken").iterdir()
    assert open_bundle(bundle).manifest.proof.degraded
    verify = [sys.executable, "-m", "edgeward", "verify", str(bundle)]
    assert subprocess.run(verify, check=False, capture_output=True).returncode == 3
    assert desk.made()


def perturb(desk: Desk) -> None:
    """Turn the exported weights end for end, and forget that they were verified."""
    for record in (desk.cache / "stages").glob("*/stage.json"):
        name = json.loads(record.read_text())["name"]
        if name == "export":
            model = onnx.load(record.parent / "out" / "model.onnx")
            for tensor in model.graph.initializer:
                if len(tensor.raw_data) > 4096:
                    values = onnx.numpy_helper.to_array(tensor)
                    turned = np.ascontiguousarray(values.reshape(-1)[::-1]).reshape(values.shape)
                    tensor.CopyFrom(onnx.numpy_helper.from_array(turned, tensor.name))
            (record.parent / "out" / "model.onnx").chmod(0o600)
            onnx.save(model, record.parent / "out" / "model.onnx")
        elif name == "verify":
            record.unlink()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_an_interruption_leaves_no_half_bundle_and_no_orphan(tmp_path: Path, number: int) -> None:
    desk = Desk(tmp_path / "desk")
    process = desk.start()
    workers = wait_for_workers(process.pid)
    time.sleep(3)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.kill()
    _, said = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []
    assert desk.made() == []
    again = desk.run()
    assert again.returncode == 0, again.stderr
    assert desk.made() == ["all-MiniLM-L6-v2-x86-64-cpu-fp32"]


def wait_for_workers(pid: int) -> list[psutil.Process]:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        found = psutil.Process(pid).children(recursive=True)
        if any("worker" in " ".join(process.cmdline()) for process in found):
            return found
        time.sleep(0.1)
    raise AssertionError("no worker came up")


def test_a_stage_over_its_time_is_told(tmp_path: Path) -> None:
    done = Desk(tmp_path / "desk").run("--max-seconds", "3")
    assert done.returncode == 1
    assert "export" in done.stderr
    assert "did not end within 3" in done.stderr
    assert "--max-seconds" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_stage_over_its_memory_is_told(tmp_path: Path) -> None:
    done = Desk(tmp_path / "desk").run("--max-memory-gib", "0.4")
    assert done.returncode == 1
    assert "memory" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_leaves_no_half_bundle(
    both: tuple[Desk, list[dict[str, Any]]], tmp_path: Path
) -> None:
    desk, _ = both
    small = tmp_path / "small"
    small.mkdir()
    compile_there = " ".join(desk.command("-o", str(small / "build")))
    script = (
        f"mount -t tmpfs -o size=40m small {small} && {compile_there}; echo code $?; "
        f"find {small} -type f | wc -l"
    )
    flags = "-m" if os.geteuid() == 0 else "-rm"
    done = subprocess.run(
        ["unshare", flags, "bash", "-c", script],
        env=desk.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["code", "1", "0"], done.stdout + done.stderr
    assert "space" in done.stderr
    assert "Traceback" not in done.stderr
