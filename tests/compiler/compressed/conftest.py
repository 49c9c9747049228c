"""Tiny generators and a runner that all slow tests of compressed checkpoints share."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from documents import ROOT
from fresh_cache import fresh_cache

from edgeward.compiler.compile import Compiled, CompileRequest, compile_model, stage_runner
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.stages import StageRunner
from edgeward.compiler.toolchains.manager import Toolchains

Compile = Callable[..., Compiled]
Script = Callable[[str, Path], object]
TYPES = ("llama", "gemma2", "mixtral", "opt")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random model of each type."""
    folder = tmp_path_factory.mktemp("tiny")
    script = ROOT / "tests" / "support" / "make_decoders.py"
    python = Toolchains().ensure("onnx", NullReporter()).python
    subprocess.run([python, script, folder, *TYPES], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fresh_cache(tmp_path_factory.mktemp("c") / "cache")


@pytest.fixture(scope="session")
def stages(cache: Path) -> Iterator[StageRunner]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEWARD_CACHE", str(cache))
        with stage_runner(CompileRequest("", (), cache), NullReporter()) as runner:
            yield runner


@pytest.fixture(scope="session")
def compiled(stages: StageRunner, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """Compile a tiny model once for each target, precision and engine."""
    made: dict[tuple[object, ...], Compiled] = {}
    output = tmp_path_factory.mktemp("build")

    def run(model_type: str, precision: str, target: str = "b200", **more: object) -> Compiled:
        key = (model_type, precision, target, *sorted(map(str, more.items())))
        if key not in made:
            request = CompileRequest(
                model=str(tiny / model_type),
                targets=(target,),
                output=output / str(len(made)),
                precisions=(precision,),
                format="compressed",
                **more,  # type: ignore[arg-type]
            )
            (made[key],) = compile_model(request, runner=stages)
        return made[key]

    return run


@pytest.fixture(scope="session")
def in_toolchain() -> Script:
    """Run a script in the `compressed` toolchain on a folder; its last line is JSON."""
    python = Toolchains().ensure("compressed", NullReporter()).python

    def run(script: str, folder: Path) -> object:
        done = subprocess.run(
            [python, "-c", script, folder],
            env={"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run
