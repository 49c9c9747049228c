"""A head in pieces for the Neural Engine: one copy of what is the embedding too."""

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
@pytest.mark.timeout(900)
def test_the_pieces_of_a_tied_head_are_looked_up_in(tmp_path: Path) -> None:
    python = Toolchains().ensure("coreml", NullReporter()).python
    done = subprocess.run(
        [python, ROOT / "tests" / "support" / "check_split_head.py", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment({"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for tied in (found["tied"], found["scaled"]):
        # The last piece is below what is counted.
        assert tied["uses"] == {"tied": 2}
        assert tied["bytes"] < 1.1 * tied["embedding"]
    apart = found["apart"]
    assert apart["uses"] == {"look-up": 1, "product": 2}
    assert 2 * apart["embedding"] < apart["bytes"] < 2.1 * apart["embedding"]
    assert max(found[name]["difference"] for name in ("tied", "apart")) < 0.01
    assert found["scaled"]["difference"] < 0.05
