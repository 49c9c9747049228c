"""Which weights llama.cpp packs anew, and when a file is read for that instead of mapped."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from documents import ROOT
from smollm2 import smollm2_half

from edgeward.compiler.child import clean_environment
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains.manager import Toolchains
from edgeward.runtimes.bundle.gguf_header import GgufTensor
from edgeward.runtimes.bundle.gguf_types import TENSOR_TYPES
from edgeward.runtimes.engines.llama_repacked import (
    is_better_read,
    is_repacked,
    repacked_bytes,
)

NUMBERS = {one.name: number for number, one in TENSOR_TYPES.items()}
SUPPORT = ROOT / "tests" / "support"


def tensor(name: str, type_name: str = "Q4_0", rows: int = 64, size: int = 100) -> GgufTensor:
    return GgufTensor(name, (rows, 256), NUMBERS[type_name], 0, size)


@pytest.mark.parametrize(
    ("type_name", "rows", "features", "found"),
    [
        ("Q4_0", 64, ("AVX2",), True),
        ("Q4_0", 60, ("AVX2",), False),
        ("Q4_0", 60, ("DOTPROD",), True),
        ("Q4_0", 64, ("SSE3", "NEON"), False),
        ("Q4_K", 64, ("AVX2",), True),
        ("Q6_K", 64, ("AVX2",), False),
        ("Q6_K", 64, ("NEON", "DOTPROD"), True),
        ("Q8_0", 64, ("AVX2", "AVX512"), False),
        ("Q8_0", 64, ("AVX2", "AVX512", "AMX_INT8"), True),
        ("Q2_K", 64, ("AVX2", "AVX512"), True),
        ("Q2_K", 64, ("AVX2",), False),
        ("F32", 64, ("AVX2", "DOTPROD"), False),
    ],
)
def test_a_type_is_packed_anew_by_instructions_and_rows(
    type_name: str, rows: int, features: tuple[str, ...], found: bool
) -> None:
    assert is_repacked(type_name, (rows, 256), features) == found


def test_what_is_no_matrix_is_not_packed() -> None:
    assert not is_repacked("Q4_0", (256,), ("AVX2",))
    assert not is_repacked("Q4_0", (), ("AVX2",))
    assert is_repacked("Q4_0", (3, 64, 256), ("AVX2",))


def test_rows_that_are_looked_up_are_not_packed_but_where_they_are_the_head() -> None:
    layer, table, head = (
        tensor("blk.0.ffn_up.weight"),
        tensor("token_embd.weight", size=7),
        "output",
    )
    assert repacked_bytes([layer, table, tensor(f"{head}.weight")], ("AVX2",)) == 200
    assert repacked_bytes([layer, table], ("AVX2",)) == 107
    others = [tensor("position_embd.weight"), tensor("token_types.weight")]
    assert repacked_bytes([layer, *others], ("AVX2",)) == 100


def test_a_file_is_read_where_more_than_an_eighth_would_stand_there_twice() -> None:
    assert is_better_read(126, 1000)
    assert not is_better_read(125, 1000)
    assert not is_better_read(0, 0)


@pytest.fixture(scope="module")
def half() -> Path:
    return smollm2_half()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("types", [("Q4_0",), ("Q4_K_M",), ("Q8_0",), ("Q4_0", "Q4_0")])
def test_llama_cpp_packs_what_is_said_here_and_answers_the_same(
    half: Path, types: tuple[str, ...]
) -> None:
    python = Toolchains().ensure("llama", NullReporter()).python
    environment = clean_environment(
        {"PYTHONPATH": f"{ROOT / 'src'}:{SUPPORT}", "OMP_NUM_THREADS": "1"}
    )
    command = [python, SUPPORT / "llama_buffers.py", half, *types]
    said = subprocess.run(command, check=True, capture_output=True, env=environment).stdout
    told = json.loads(said)
    mapped, opened = told["mapped"], told["opened"]
    repacked = mapped.get("CPU_REPACK", 0.0)
    assert told["counted"] == pytest.approx(repacked, abs=0.01)
    assert opened.get("CPU_REPACK", 0.0) == repacked
    stored = half.stat().st_size / 2**20
    assert ("CPU_Mapped" in opened) == (repacked < stored / 20)
    assert told["apart"] == 0.0
