"""The quick exporter writes what the plain one writes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from documents import ROOT

from edgeward.compiler.child import clean_environment
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains.manager import Toolchains


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_same_bytes_for_a_small_part_of_the_work(tmp_path: Path) -> None:
    python = Toolchains().ensure("onnx", NullReporter()).python
    support = ROOT / "tests" / "support"
    environment = clean_environment({"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"})
    subprocess.run(
        [python, support / "make_decoders.py", tmp_path, "gemma2"], check=True, capture_output=True
    )
    done = subprocess.run(
        [python, support / "check_matching.py", tmp_path / "gemma2"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["same"]
    for what, share in {"nodes": 5, "outputs": 1.5, "sizes": 50, "traces": 20}.items():
        _, quick, plain = found[what]
        assert quick < plain / share, what
    assert found["tables"] == [1, 0, 1]
