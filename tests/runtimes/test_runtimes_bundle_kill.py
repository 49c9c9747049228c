"""SIGKILL before each file operation of a writer: the old bundle or the new one, never half."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT

from edgeward.runtimes.bundle.read import Bundle

SCRIPT = ROOT / "tests" / "support" / "kill_steps.py"
BROUGHT_BACK_BY = "No bundle; mv"


def steps_of(good: Bundle, folder: Path, how: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(good.path), str(folder), how],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("how", ["swap", "two-step"])
def test_a_kill_before_any_file_operation_leaves_one_whole(
    tiny_bundle: Bundle, tmp_path: Path, how: str
) -> None:
    *killed, whole = steps_of(tiny_bundle, tmp_path, how)
    found = [step["found"] for step in killed]
    assert whole["found"] == "new"
    assert len(killed) > 20
    between = [BROUGHT_BACK_BY] if how == "two-step" else []
    assert list(dict.fromkeys(found)) == ["old", *between, "new"]
    assert all(step["after"] == "next" for step in killed)
    assert all(step["left"] == ["bundle"] for step in killed)
