"""A server's GPU: known by its name, with its own memory, and before the server's processor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgeward.errors import ProfileError
from edgeward.targets.derive import gpu_profile_from
from edgeward.targets.fingerprint import Fingerprint
from edgeward.targets.load import load, names
from edgeward.targets.match import best, compatible
from edgeward.targets.plan.predict import engine_for
from edgeward.targets.plan.units_of import unit_of
from edgeward.targets.probe import probe
from edgeward.targets.write import to_toml

GIB = 2**30
SERVERS = ("a100", "a10g", "b200", "h100", "h200", "l4", "t4")
HOST = Fingerprint(
    arch="x86_64",
    os="Linux",
    kernel="6.6",
    cpu_model="EPYC",
    cores=16,
    memory_bytes=128 * GIB,
    cpu_flags=("avx2", "fma", "avx512f", "avx512_vnni", "amx_int8"),
    python_version="3.12.3",
    engines={"onnxruntime": "1.31.0"},
)
H100 = replace(
    HOST,
    gpu_name="NVIDIA H100 80GB HBM3",
    gpu_memory_bytes=79 * GIB,
    compute_capability="9.0",
)


@pytest.mark.parametrize(
    ("name", "capability", "target"),
    [
        ("NVIDIA H200", "9.0", "h200"),
        ("NVIDIA H100 80GB HBM3", "9.0", "h100"),
        ("NVIDIA GH200 480GB", "9.0", None),
        (None, "9.0", None),
        ("NVIDIA L4", "8.9", "l4"),
        ("NVIDIA L40S", "8.9", None),
        ("NVIDIA GeForce RTX 4090", "8.9", None),
        ("NVIDIA A100-SXM4-80GB", "8.0", "a100"),
        ("Tesla T4", "7.5", "t4"),
    ],
)
def test_gpus_of_one_capability_are_told_by_their_name(
    name: str | None, capability: str, target: str | None
) -> None:
    here = replace(HOST, gpu_name=name, compute_capability=capability)
    found = best(map(load, SERVERS), here)
    assert (found.name if found else None) == target


def test_a_known_gpu_is_what_the_machine_is() -> None:
    assert best(map(load, names()), H100) == load("h100")
    without = best(map(load, names()), HOST)
    assert without is not None
    assert not without.match.gpu


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_runs_graphs_and_gguf_on_its_gpu(name: str) -> None:
    profile = load(name)
    for format_name, precision in (("onnx", "fp16"), ("gguf", "q4_k_m"), ("compressed", "w8a8")):
        engine = engine_for(profile, format_name)
        assert unit_of(profile, engine, precision) == "gpu"
    assert profile.otherwise is not None
    assert profile.otherwise.format == "onnx"
    assert profile.memory_is_the_gpus


def test_the_gpus_memory_has_to_hold_the_bundle() -> None:
    profile = load("h100")
    small_host = replace(H100, memory_bytes=16 * GIB)
    assert compatible(profile, small_host, needs_memory_bytes=60 * GIB).ok
    other = compatible(profile, replace(H100, gpu_memory_bytes=40 * GIB))
    assert any("has 40" in reason for reason in other.reasons)
    untold = compatible(profile, replace(small_host, gpu_memory_bytes=None))
    assert not untold.ok
    board = load("jetson-orin-nano")
    assert not board.memory_is_the_gpus
    assert load("x86-64-cpu").memory_is_the_gpus is False


def test_nvidia_smi_tells_the_memory(tmp_path: Path) -> None:
    def ask(answer: str) -> int | None:
        return probe(tmp_path, lambda _: answer).gpu_memory_bytes

    assert ask("NVIDIA H100 80GB HBM3, 9.0, 550.54.15, 81559\n") == 81559 << 20
    for silent in ("", "NVIDIA H100, 9.0, 550.54.15", "x, 9.0, 1, [N/A]", "x, 9.0, 1, -3"):
        assert ask(silent) is None


def test_the_profile_that_is_written_for_a_machine_with_a_gpu(tmp_path: Path) -> None:
    here = replace(H100, gpu_memory_bytes=94 * GIB)
    path = tmp_path / "mine.toml"
    path.write_text(gpu_profile_from(here, load("h100")))
    mine = load(path)
    assert mine.hardware.memory_bytes == 94 * GIB
    assert mine.hardware.cores == 16
    assert mine.hardware.units == load("h100").hardware.units
    share = load("h100").hardware
    assert mine.hardware.usable_memory_bytes / mine.hardware.memory_bytes == pytest.approx(
        share.usable_memory_bytes / share.memory_bytes, rel=1e-3
    )
    assert best([mine, *map(load, names())], here) == mine


def test_what_it_takes_otherwise_is_kept_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "t4.toml"
    path.write_text(to_toml(load("t4")))
    assert load(path).otherwise == load("t4").otherwise
    path.write_text('extends = "t4"\n[default.otherwise]\nprecision = "int8-dynamic"\n')
    with pytest.raises(
        ProfileError, match=r"default\.otherwise\.precision is not one of fp32, fp16"
    ):
        load(path)
