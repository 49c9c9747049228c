"""A simulated NVIDIA device for child processes: trtexec and nvidia-smi on PATH, TensorRT."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiny_model import make_tiny_bundle, tiny_manifest

from edgeward.runtimes.bundle.read import Bundle

SUPPORT = Path(__file__).parent
OPTIONS = {"engine": "tensorrt", "ranges": "batch=1:1:8,sequence=1:8:16"}
GPU = "Orin (nvgpu), 8.7, 540.4.0"
SCRIPT = """#!{python}
import sys
sys.path.insert(0, {support!r})
from fake_trtexec import main
main()
"""


def make_built_bundle(destination: Path, *, target: str = "x86-64-cpu", **changes: Any) -> Bundle:
    """Write a tiny bundle whose recipe asks for an engine that the device builds."""
    recipe = {**tiny_manifest([], target, "0" * 64)["recipe"], "options": OPTIONS}
    return make_tiny_bundle(destination, target=target, changes={"recipe": recipe, **changes})


def simulated_device(
    folder: Path, *, trtexec: bool = True, python: bool = False, gpu: str | None = GPU
) -> dict[str, str]:
    """Write the programs below `folder` and return the environment that finds them."""
    programs = folder / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    if trtexec:
        script = SCRIPT.format(python=sys.executable, support=str(SUPPORT))
        _program(programs / "trtexec", script)
    (programs / "nvidia-smi").unlink(missing_ok=True)
    if gpu is not None:
        _program(programs / "nvidia-smi", f"#!/bin/sh\necho '{gpu}'\n")
    path = [str(SUPPORT), *([str(SUPPORT / "tensorrt_sim")] if python else [])]
    return {
        **_clean(os.environ),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": ":".join(path),
        "EDGEWARD_ENGINES": str(folder / "engines"),
        "FAKE_TRTEXEC_LOG": str(folder / "builds.log"),
        "OMP_NUM_THREADS": "1",
    }


def builds(folder: Path) -> list[str]:
    """Return the command lines that trtexec was built with."""
    log = folder / "builds.log"
    return log.read_text().splitlines() if log.exists() else []


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in environment.items() if not key.startswith("FAKE_")}


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
