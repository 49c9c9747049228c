"""SmolLM2 behind a cache of slots: Hugging Face's own tokens, and no value out of float16."""

from __future__ import annotations

import json
import subprocess

import pytest
from documents import ROOT
from smollm2 import smollm2

from edgeward.compiler.child import clean_environment
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains.manager import Toolchains

LARGEST_FLOAT16 = 65504


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_real_model_writes_the_same_and_stays_within_float16() -> None:
    python = Toolchains().ensure("onnx", NullReporter()).python
    script = ROOT / "tests" / "support" / "slots_real.py"
    environment = clean_environment({"PYTHONPATH": str(ROOT / "src")})
    ran = subprocess.run([python, script, smollm2()], capture_output=True, env=environment)
    assert ran.returncode == 0, ran.stderr[-3000:]
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["same"] == 64, told
    assert 256 < told["largest"] < LARGEST_FLOAT16, told
