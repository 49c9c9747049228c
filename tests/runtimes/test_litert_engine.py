"""LiteRT sessions in the runtimes that they are for: ai-edge-litert, and tflite-runtime 2.14."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT
from tiny_tflite import write_tiny

from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains.manager import Toolchains
from edgeward.errors import EngineError
from edgeward.runtimes.engines import litert

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SHAPES = {"serving_default": [2, 3], "short": [1, 3]}
RUNTIMES = {"litert-runtime": ("litert", "2.3.0"), "tflite-runtime": ("tflite-runtime", "2.14.0")}


def called(toolchain: str, path: Path) -> Any:
    python = Toolchains().ensure(toolchain, NullReporter()).python
    script = ROOT / "tests" / "support" / "litert_calls.py"
    done = subprocess.run(
        [python, script, path, "2x3", "1x3"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("integers", [False, True])
@pytest.mark.parametrize("toolchain", RUNTIMES)
def test_each_shape_has_its_signature(tmp_path: Path, toolchain: str, integers: bool) -> None:
    told = called(toolchain, write_tiny(tmp_path / "a.tflite", SHAPES, integers=integers))
    assert (told["engine"], told["version"]) == RUNTIMES[toolchain]
    assert told["values"] == [[3.0] * 6, [3.0] * 3]
    assert told["refused"] == ["UsageError"] * 5
    assert told["together"]


def test_without_a_runtime_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litert, "PACKAGES", {"none": "edgeward.nowhere"})
    with pytest.raises(EngineError, match="not installed") as caught:
        litert.open_model(write_tiny(tmp_path / "a.tflite", SHAPES), litert.EngineOptions())
    assert "edgeward[litert]" in caught.value.next
