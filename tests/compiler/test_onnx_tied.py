"""A head that is the table of words is stored once, and read as it lies."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from documents import ROOT

from edgeward.compiler.child import clean_environment
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains.manager import Toolchains

TABLE = 40 * 8


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_head_that_is_the_table_turned_over_reads_the_table(tmp_path: Path) -> None:
    python = Toolchains().ensure("onnx", NullReporter()).python
    support = ROOT / "tests" / "support"
    done = subprocess.run(
        [python, support / "check_tied.py", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment({"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    for head in ("node", "stored"):
        told = found[head]
        assert told["before"][-1] == "MatMul"
        assert "Gemm" in told["after"]
        assert not {"Transpose", "MatMul"} & set(told["after"])
        assert TABLE <= told["stored"] < 1.1 * TABLE
        assert told["apart"] < 1e-5
    assert found["another"]["after"] == found["another"]["before"]
    assert found["another"]["stored"] == 2 * TABLE
