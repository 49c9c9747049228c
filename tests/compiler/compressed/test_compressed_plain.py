"""A checkpoint is byte for byte what llm-compressor's one-shot makes by the same recipe."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from documents import ROOT

from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains.manager import Toolchains

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
CONTESTANT = ROOT / "benchmarks" / "llm" / "compressed_contestant.py"


# One that looks at texts after another that changed the model, one of each way to round.
@pytest.mark.parametrize("precision", ["w8a8", "w4a16-awq", "nvfp4"])
def test_a_checkpoint_is_the_plain_one(tiny: Path, tmp_path: Path, precision: str) -> None:
    python = Toolchains().ensure("compressed", NullReporter()).python
    texts = (ROOT / "compiler" / "data" / "calibration.txt").read_text("utf-8").splitlines()[:12]
    (tmp_path / "texts").write_text("\n".join(texts))
    for who in ("ours", "plain"):
        (tmp_path / who).mkdir()
        command = [python, CONTESTANT, who, tiny / "llama", precision, tmp_path / who]
        subprocess.run(
            [*command, tmp_path / "texts"],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        )
    ours, plain = (tmp_path / who / "checkpoint" / "model.safetensors" for who in ("ours", "plain"))
    assert ours.read_bytes() == plain.read_bytes()
