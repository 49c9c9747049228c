"""What several of the compiler's tests need: a runner on a fresh cache, waiting, dead processes."""

import time
from pathlib import Path

from edgeward.compiler.progress import NullReporter
from edgeward.compiler.stages import Limits, StageRunner, StageSpec
from edgeward.compiler.toolchains import Toolchains


class Recorder(NullReporter):
    """Keeps what it was told."""

    def __init__(self):
        self.finished = []
        self.failed = []
        self.notes = []
        self.progress = []

    def stage_finished(self, name, text, seconds, peak_memory_bytes=0, cached=False):
        self.finished.append((name, text, cached))

    def stage_progress(self, name, fraction, text, memory_bytes=0):
        self.progress.append((name, fraction, text, memory_bytes))

    def stage_failed(self, name):
        self.failed.append(name)

    def note(self, text):
        self.notes.append(text)


def runner(cache: Path, reporter=None, **limits) -> StageRunner:
    return StageRunner(
        Toolchains(cache), cache, reporter or NullReporter(), Limits(**limits), threads=1
    )


def spec(function: str, toolchain=None, inputs=None, **params) -> StageSpec:
    return StageSpec(
        name=function,
        call=f"compiler_stage_functions:{function}",
        version=1,
        inputs=inputs or {},
        params=params,
        toolchain=toolchain,
    )


def wait_until(true, what: str, seconds: float = 60.0):
    """Wait for a condition; the bound only ends a test that would hang."""
    end = time.monotonic() + seconds
    while not (value := true()):
        if time.monotonic() > end:
            raise AssertionError(f"never happened: {what}")
        time.sleep(0.02)
    return value


def is_running(pid: int) -> bool:
    """Tell whether a process exists and is no zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def read_pids(path: Path) -> list[int]:
    wait_until(path.exists, f"{path} is written")
    return [int(word) for word in path.read_text().split()]
