"""A desk to compile the real model on: a stage cache of its own, the toolchains of the user.

Where the compile is not what a test is about, its stages are the user's too, as a reader's are.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from fresh_cache import fresh_cache
from real_model import minilm

from edgeward.compiler.cache_dir import cache_root

Done = subprocess.CompletedProcess[str]
_DEADLINE = 240.0


class Desk:
    """Runs `edgeward compile` for kiosk-x86 into `build/`."""

    def __init__(self, folder: Path, *, fresh: bool = True) -> None:
        folder.mkdir(exist_ok=True)
        self.build = folder / "build"
        self.cache = fresh_cache(folder / "cache") if fresh else cache_root()
        self.environment = {**os.environ, "EDGEWARD_CACHE": str(self.cache), "OMP_NUM_THREADS": "1"}

    def command(self, *more: str, precisions: str = "fp32", model: Path | None = None) -> list[str]:
        """Return what would be typed."""
        base = [sys.executable, "-m", "edgeward", "compile", str(model or minilm())]
        return [*base, "-t", "kiosk-x86", "-p", precisions, "-o", str(self.build), *more]

    def run(self, *more: str, precisions: str = "fp32", model: Path | None = None) -> Done:
        """Compile to the end."""
        return subprocess.run(
            self.command(*more, precisions=precisions, model=model),
            env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def start(self, *more: str) -> subprocess.Popen[str]:
        """Begin to compile, as a group of its own as a shell does."""
        return subprocess.Popen(
            self.command(*more),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def records(self) -> list[dict[str, Any]]:
        """Return the record of every finished stage."""
        found = sorted((self.cache / "stages").glob("*/stage.json"))
        return [{**json.loads(path.read_text()), "path": path} for path in found]

    def finished(self) -> dict[str, float]:
        """Return how long each finished stage took; one that is done again takes another time."""
        return {record["key"]: record["seconds"] for record in self.records()}

    def made(self) -> list[str]:
        """Return what stands in `build/`."""
        return sorted(path.name for path in self.build.iterdir()) if self.build.exists() else []

    def twin(self, folder: Path) -> Desk:
        """Return another desk that has finished the same stages and made no bundle."""
        other = Desk(folder)
        shutil.copytree(self.cache / "stages", other.cache / "stages")
        return other


def workers_of(
    process: subprocess.Popen[str], ready: Callable[[int], bool]
) -> list[psutil.Process]:
    """Wait until the stage is `ready`, told its resident bytes; return all its processes."""
    end = time.monotonic() + _DEADLINE
    parent = psutil.Process(process.pid)
    while time.monotonic() < end and process.poll() is None:
        found = parent.children(recursive=True)
        if ready(max((_resident(child) for child in found), default=0)):
            return found
        time.sleep(0.02)
    raise AssertionError(f"never came that far: {process.communicate()[1]}")


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
