"""Front ends with a cache of slots, tiny models of every type, against Hugging Face's own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from decoder_kinds import DECODER_KINDS
from documents import ROOT
from matrix import sampled

from edgeward.compiler.architectures import DECODERS, SPEECH_WRITERS, WRITERS
from edgeward.compiler.child import clean_environment
from edgeward.compiler.mobile.refused import (
    REFUSED_DECODERS,
    REFUSED_WRITERS,
    SLOTTED_DECODERS,
    SLOTTED_WRITERS,
)
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains.manager import Toolchains

FLOAT32_DIFFERENCE = 5e-5
# One of the writers of each way to place: learned, sines, by distance.
KINDS = (*DECODER_KINDS, "bart", "marian", "t5", "whisper")
TYPES = {*SLOTTED_DECODERS, *SLOTTED_WRITERS}
OTHERS = sorted(TYPES - {*KINDS})
# Each is one process; those of KINDS are in every run.
PARTS = {
    **{f"kinds {part}": KINDS[part::3] for part in range(3)},
    **{f"others {part}": OTHERS[part::4] for part in range(4)},
}
STATEFUL = ("gemma2", "gpt_neo", "llama", "qwen2_moe", "t5", "whisper")
REFUSED = {
    "damaged=llama": ("StageError", "does not compute"),
    "alibi=falcon": ("UnsupportedError", "ALiBi"),
    "linear=qwen3": ("UnsupportedError", "no form"),
    "long=llama": ("UsageError", "longer than the model's"),
    "long=bart": ("UsageError", "none of the model's"),
    "dynamic=phi3": ("UnsupportedError", "depends on the text's length"),
    "whole=longt5": ("UnsupportedError", "no form"),
    "whole=pegasus_x": ("UnsupportedError", "no form"),
}


def proofs(folder: Path, *wanted: str) -> list[dict[str, Any]]:
    python = Toolchains().ensure("onnx", NullReporter()).python
    script = ROOT / "tests" / "support" / "prove_slots.py"
    environment = clean_environment({"PYTHONPATH": str(ROOT / "src")})
    ran = subprocess.run(
        [python, script, folder, *wanted], capture_output=True, text=True, env=environment
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]


def test_every_text_generator_is_taken_or_refused_in_words() -> None:
    assert {*SLOTTED_DECODERS, *REFUSED_DECODERS} == DECODERS
    assert {*SLOTTED_WRITERS, *REFUSED_WRITERS} == WRITERS | SPEECH_WRITERS
    assert all({**REFUSED_DECODERS, **REFUSED_WRITERS}.values())
    assert len(SLOTTED_DECODERS) >= 25
    assert {one for part in PARTS.values() for one in part} == TYPES


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", sampled(PARTS, *(part for part in PARTS if "kinds" in part)))
def test_a_cache_of_slots_computes_what_the_original_does(tmp_path: Path, part: str) -> None:
    types = [*PARTS[part]]
    found = proofs(tmp_path, *(f"plain={one}" for one in types))
    assert [one["model_type"] for one in found] == types
    for one in found:
        assert "error" not in one, one
        assert one["relative_difference"] < FLOAT32_DIFFERENCE, one
        assert one["top1_agreement"] == 1.0, one
        assert max(one["exported"]) < FLOAT32_DIFFERENCE, one


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_cache_of_buffers_and_a_head_in_pieces_compute_it_too(tmp_path: Path) -> None:
    found = proofs(tmp_path, *(f"state={one}" for one in STATEFUL))
    assert [one["model_type"] for one in found] == list(STATEFUL)
    for one in found:
        assert "error" not in one, one
        assert one["relative_difference"] < FLOAT32_DIFFERENCE, one
        assert max(one["exported"]) < FLOAT32_DIFFERENCE, one


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_what_is_not_right_is_refused(tmp_path: Path) -> None:
    found = {f"{one['kind']}={one['model_type']}": one for one in proofs(tmp_path, *REFUSED)}
    for wanted, (error, words) in REFUSED.items():
        assert found[wanted].get("error") == error, found[wanted]
        assert words in found[wanted]["what"], found[wanted]
