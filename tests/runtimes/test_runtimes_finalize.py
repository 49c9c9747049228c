"""Engines built on a simulated device, as processes: kept, whole or not at all, deaths told."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from simulated_device import GPU, builds, make_built_bundle, simulated_device

from edgeward.cli import root
from edgeward.errors import EdgewardError
from edgeward.runtimes.bundle.read import Bundle
from edgeward.runtimes.finalize.hardware import find_gpu

pytestmark = pytest.mark.skipif(
    find_gpu() is not None, reason="this machine's own GPU would answer"
)
Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_built_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


def typed(environment: dict[str, str], *arguments: object, how: str = "", **more: str) -> Done:
    """Run the command: here where it takes no simulated package, else as a process of its own."""
    environment = {**environment, "FAKE_TRTEXEC": how, **more}
    words = [str(argument) for argument in arguments]
    if "tensorrt_sim" not in environment["PYTHONPATH"]:
        return typed_here(environment, words)
    command = [sys.executable, "-m", "edgeward", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def typed_here(environment: dict[str, str], words: list[str]) -> Done:
    out, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(errors):
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            status = root.main(words, standalone_mode=False, prog_name="edgeward") or 0
        except EdgewardError as error:
            errors.write(str(error))
            status = error.exit_code
    return Done(words, status, out.getvalue(), errors.getvalue())


def finalized(environment: dict[str, str], bundle: Bundle, **more: Any) -> dict[str, Any]:
    done = typed(environment, "finalize", bundle.path, "-o", "json", **more)
    assert done.returncode == 0, done.stderr
    row: dict[str, Any] = json.loads(done.stdout)[0]
    return row


def left_in(folder: Path) -> list[str]:
    """What a build left in the cache, timing caches aside."""
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return [name for name in found if not name.startswith("timing")]


def test_a_second_run_finds_the_engine(tmp_path: Path, bundle: Bundle) -> None:
    device = simulated_device(tmp_path)
    first, second = finalized(device, bundle), finalized(device, bundle)
    assert (first["state"], second["state"]) == ("built", "there already")
    assert first["verified"] == "pending-on-target"
    assert first["plan"] == second["plan"]
    assert len(builds(tmp_path)) == 1
    record = json.loads((Path(first["plan"]).parent / "engine.json").read_text())
    assert record["bundle"] == bundle.digest
    assert record["hardware"]["driver"] == "540.4.0"
    assert record["hardware"]["tensorrt"] == "10.3.0"
    assert record["ranges"] == "batch=1:1:8,sequence=1:8:16"
    assert (Path(first["plan"]).parent.parent.stat().st_mode & 0o077) == 0


def test_the_command_line_is_trtexecs(tmp_path: Path, bundle: Bundle) -> None:
    device = simulated_device(tmp_path)
    assert typed(device, "finalize", bundle.path, "--workspace-mib", "256").returncode == 0
    (line,) = builds(tmp_path)
    assert "--stronglyTyped" in line.split()
    assert "--minShapes=input_ids:1x1,attention_mask:1x1" in line.split()
    assert "--optShapes=input_ids:1x8,attention_mask:1x8" in line.split()
    assert "--maxShapes=input_ids:8x16,attention_mask:8x16" in line.split()
    assert "--memPoolSize=workspace:256M" in line.split()


@pytest.mark.parametrize(
    ("gpu", "version"),
    [
        ("Orin (nvgpu), 8.7, 540.5.0", "v100300"),
        pytest.param("NVIDIA L4, 8.9, 540.4.0", "v100300", marks=pytest.mark.slow),
        pytest.param(GPU, "v100301", marks=pytest.mark.slow),
    ],
)
def test_another_device_builds_anew(tmp_path: Path, bundle: Bundle, gpu: str, version: str) -> None:
    before = finalized(simulated_device(tmp_path), bundle)
    device = simulated_device(tmp_path, gpu=gpu)
    after = finalized(device, bundle, FAKE_TRTEXEC_VERSION=version)
    assert after["state"] == "built"
    assert before["plan"] != after["plan"]
    listed = typed(device, "finalize", "--list", "-o", "json", FAKE_TRTEXEC_VERSION=version)
    assert len(json.loads(listed.stdout)) == 2
    cleared = typed(
        device, "finalize", "--clear-old", "--list", "-o", "json", FAKE_TRTEXEC_VERSION=version
    )
    assert "1 engines" in cleared.stderr
    assert [row["folder"] for row in json.loads(cleared.stdout)] == [
        str(Path(after["plan"]).parent)
    ]
    assert not Path(before["plan"]).exists()


def test_another_bundle_builds_anew(tmp_path: Path, bundle: Bundle) -> None:
    device = simulated_device(tmp_path)
    other = make_built_bundle(tmp_path / "other", name="other")
    assert finalized(device, bundle)["plan"] != finalized(device, other)["plan"]
    timing = list((tmp_path / "engines" / "timing").iterdir())
    assert [path.read_bytes().count(b"tactics") for path in timing] == [2]


def test_a_damaged_engine_is_built_again(tmp_path: Path, bundle: Bundle) -> None:
    device = simulated_device(tmp_path)
    plan = Path(finalized(device, bundle)["plan"])
    whole = plan.read_bytes()
    plan.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert finalized(device, bundle)["state"] == "built"
    assert plan.read_bytes() == whole
    (plan.parent / "engine.json").write_text("{}")
    assert finalized(device, bundle)["state"] == "built"


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("fail", "Error Code 10"),
        ("abort", "SIGABRT"),
        ("kill", "want of memory"),
        ("empty", "left no plan"),
        pytest.param("full", "No space left", marks=pytest.mark.slow),
        pytest.param("leak", "bytes of memory", marks=pytest.mark.slow),
        pytest.param("hang", "did not end within", marks=pytest.mark.slow),
    ],
)
def test_a_build_that_fails_says_so_and_leaves_nothing(
    tmp_path: Path, bundle: Bundle, how: str, words: str
) -> None:
    device = simulated_device(tmp_path)
    limits = ["--max-seconds", "3", "--max-memory-gib", "0.2"] if how in ("hang", "leak") else []
    done = typed(device, "finalize", bundle.path, *limits, how=how)
    assert done.returncode == 1, done.stderr
    assert words in done.stderr
    assert left_in(tmp_path / "engines") == []
    assert finalized(device, bundle)["state"] == "built"


def test_a_build_that_is_killed_is_swept_by_the_next(tmp_path: Path, bundle: Bundle) -> None:
    device = {**simulated_device(tmp_path), "FAKE_TRTEXEC": "hang"}
    command = [sys.executable, "-m", "edgeward", "finalize", str(bundle.path)]
    process = subprocess.Popen(command, env=device, stderr=subprocess.DEVNULL)
    engines = tmp_path / "engines"
    end = time.monotonic() + 60
    while not list(engines.rglob("model.plan")) and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while builders(tmp_path) and time.monotonic() < end:
        time.sleep(0.02)
    assert builders(tmp_path) == []
    assert [name for name in left_in(engines) if name.endswith("model.plan")]
    assert finalized(device, bundle)["state"] == "built"
    assert not [name for name in left_in(engines) if "partial" in name]


def builders(folder: Path) -> list[str]:
    """The trtexecs of this test that live."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            continue
        found += [word for word in words if word == str(folder / "bin" / "trtexec")]
    return found


def test_two_at_once_leave_one_whole_engine(tmp_path: Path, bundle: Bundle) -> None:
    device = simulated_device(tmp_path)
    command = [sys.executable, "-m", "edgeward", "finalize", str(bundle.path)]
    both = [subprocess.Popen(command, env=device, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert finalized(device, bundle)["state"] == "there already"
    assert len(left_in(tmp_path / "engines")) == 4


def test_what_is_missing_is_told_with_what_to_install(tmp_path: Path, bundle: Bundle) -> None:
    bare = simulated_device(tmp_path, trtexec=False, gpu=None)
    done = typed(bare, "finalize", bundle.path)
    assert done.returncode == 5
    assert "trtexec is neither on PATH" in done.stderr
    assert "apt-get install tensorrt" in done.stderr
    without_gpu = simulated_device(tmp_path, gpu=None)
    done = typed(without_gpu, "finalize", bundle.path)
    assert done.returncode == 5
    assert "No NVIDIA GPU here" in done.stderr
    done = typed(simulated_device(tmp_path), "finalize", bundle.path, how="old")
    assert done.returncode == 5
    assert "trtexec is TensorRT 8.6.2" in done.stderr
    assert left_in(tmp_path / "engines") == []


def test_a_dry_run_builds_nothing(tmp_path: Path, bundle: Bundle) -> None:
    device = simulated_device(tmp_path)
    done = typed(device, "finalize", bundle.path, "--dry-run", "-o", "json")
    fields = {row["field"]: row["value"] for row in json.loads(done.stdout)}
    assert fields["state"] == "to be built"
    assert "--stronglyTyped" in fields["command"]
    assert fields["shapes of input_ids"] == "1x1 | 1x8 | 8x16"
    assert not (tmp_path / "engines").exists()
    bare = simulated_device(tmp_path / "bare", trtexec=False, gpu=None)
    done = typed(bare, "finalize", bundle.path, "--dry-run")
    assert done.returncode == 0
    assert "pending-on-target" in done.stdout


def test_a_bundle_for_another_engine_is_refused(tmp_path: Path, tiny_bundle: Bundle) -> None:
    done = typed(simulated_device(tmp_path), "finalize", tiny_bundle.path)
    assert done.returncode == 2
    assert "not made for TensorRT" in done.stderr
    assert typed(simulated_device(tmp_path), "finalize").returncode == 2


def test_the_python_package_builds_and_proves(tmp_path: Path, bundle: Bundle) -> None:
    device = simulated_device(tmp_path, trtexec=False, python=True)
    row = finalized(device, bundle)
    assert (row["state"], row["verified"]) == ("built", "engine")
    assert "python 10.3.0" in row["engine"]
    record = json.loads((Path(row["plan"]).parent / "engine.json").read_text())
    assert record["golden"]["passed"] is True
    assert {check["metric"] for check in record["golden"]["checks"]} >= {"cosine_min"}
    done = typed(device, "verify", bundle.path, "-o", "json")
    assert "tensorrt" in json.loads(done.stdout)[0]["engine"]
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("how", "status", "words"),
    [
        ("refuse", 1, "UNSUPPORTED_NODE"),
        ("abort", 1, "SIGABRT"),
        ("wrong", 3, "fell short"),
    ],
)
def test_the_python_packages_failures_leave_nothing(
    tmp_path: Path, bundle: Bundle, how: str, status: int, words: str
) -> None:
    device = simulated_device(tmp_path, trtexec=False, python=True)
    done = typed(device, "finalize", bundle.path, FAKE_TENSORRT=how)
    assert done.returncode == status, done.stderr
    assert words in done.stderr
    assert left_in(tmp_path / "engines") == []


def test_without_an_engine_the_formats_own_serves_and_says_so(
    tmp_path: Path, bundle: Bundle
) -> None:
    device = simulated_device(tmp_path, python=True)
    done = typed(device, "verify", bundle.path, "-o", "json")
    assert done.returncode == 0, done.stderr
    assert "onnxruntime" in json.loads(done.stdout)[0]["engine"]
    assert "pending-on-target" in done.stderr
    assert f"edgeward finalize {bundle.path}" in done.stderr
    done = typed(device, "verify", bundle.path, "--engine", "tensorrt")
    assert done.returncode == 5
    done = typed(device, "verify", bundle.path, "--engine", "onnxruntime")
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]
