"""Tiny random models of every task, which tests of several files compile."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from documents import ROOT

from edgeward.compiler.cache_dir import cache_root
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains.manager import Toolchains

# Before any test has a cache of its own.
CACHE = cache_root()
SUPPORT = ROOT / "tests" / "support"
SCRIPT = SUPPORT / "make_heads.py"
# What they are made of, beside the toolchain.
SOURCES = (SCRIPT, SUPPORT / "make_encoders.py", ROOT / "compiler" / "data" / "sentences.txt")


def tiny_heads() -> Path:
    """Return the folder TASK/MODEL_TYPE, made the first time; read it, never write to it."""
    toolchain = Toolchains().ensure("onnx", NullReporter())
    digest = hashlib.sha256(toolchain.digest.encode())
    for path in SOURCES:
        digest.update(path.read_bytes())
    folder = CACHE / "models" / f"tiny-heads-{digest.hexdigest()[:8]}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch) / "made"
        subprocess.run([toolchain.python, SCRIPT, made], check=True, capture_output=True)
        with suppress(OSError):  # another process was faster
            made.rename(folder)
    return folder
