"""Child processes that cannot take their parent down: limited, and killed as a group."""

from __future__ import annotations

import ctypes
import os
import resource
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

MAX_OUTPUT = 2**20
POLL_SECONDS = 0.05
READS = 64
_PR_SET_PDEATHSIG = 1
_PAGE = os.sysconf("SC_PAGE_SIZE")
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class Clock(Protocol):
    """Where the time of a limit comes from."""

    def monotonic(self) -> float:
        """Return seconds that only grow."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended: its status (negative for a signal), its output, what it took."""

    status: int
    output: bytes
    errors: str
    peak_memory_bytes: int
    seconds: float
    stopped: str = ""


def die_with(parent: int) -> None:
    """Ask Linux to kill this process when its parent dies, even by SIGKILL.

    `parent` is its process id, taken before the fork: where it died before this was asked for,
    nobody would ever tell.
    """
    if _LIBC is None:
        return
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a child that leads its own process group, and all that it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run_limited(
    command: Sequence[str],
    *,
    seconds: float,
    memory_bytes: int,
    clock: Clock,
    between: Callable[[], None],
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Run a child to its end, or until it goes over a limit; `between` is called all along.

    `environment` is the child's whole environment, None for the parent's own. Raises OSError where
    it cannot be started, and whatever `between` raises; the child is gone in every case.
    """
    parent = os.getpid()
    process = subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: _limit(parent, memory_bytes),
        env=None if environment is None else dict(environment),
    )
    try:
        return _watch(process, seconds, memory_bytes, clock, between)
    finally:
        kill_group(process)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def _limit(parent: int, memory_bytes: int) -> None:
    die_with(parent)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Address space is only a backstop: engines reserve far more of it than they ever touch.
    ceiling, (_, hard) = 4 * memory_bytes + 8 * 2**30, resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or ceiling < hard:
        resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))


def _watch(
    process: subprocess.Popen[bytes],
    seconds: float,
    memory_bytes: int,
    clock: Clock,
    between: Callable[[], None],
) -> Ended:
    begun, peak, stopped = clock.monotonic(), 0, ""
    output = _Output(process.stdout, process.stderr)
    while process.poll() is None and not stopped:
        output.read(POLL_SECONDS)
        peak = max(peak, resident_bytes(process.pid))
        if peak > memory_bytes:
            stopped = f"it took {peak} bytes of memory, {memory_bytes} are allowed"
        elif clock.monotonic() - begun > seconds:
            stopped = f"it did not end within {seconds:g} seconds"
        else:
            between()
    if stopped:
        kill_group(process)
    output.read(0)
    took = clock.monotonic() - begun
    return Ended(process.wait(), output.out, output.words, peak, took, stopped)


def resident_bytes(pid: int) -> int:
    """Return what a process and its children hold in memory, 0 once they are gone."""
    total, waiting = 0, [pid]
    while waiting:
        each = waiting.pop()
        try:
            total += int(Path(f"/proc/{each}/statm").read_text().split()[1]) * _PAGE
            children = Path(f"/proc/{each}/task/{each}/children").read_text()
        except (OSError, ValueError, IndexError):
            continue
        waiting.extend(map(int, children.split()))
    return total


class _Output:
    """Collects what a child writes, the first megabyte of each stream; the rest is thrown away."""

    def __init__(self, *pipes: IO[bytes] | None) -> None:
        self._selector = selectors.DefaultSelector()
        self._data = [bytearray() for _ in pipes]
        for data, pipe in zip(self._data, pipes, strict=True):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
                self._selector.register(pipe, selectors.EVENT_READ, data)

    def read(self, timeout: float) -> None:
        for _ in range(READS):
            ready = self._selector.select(timeout)
            if not ready:
                return
            for key, _ in ready:
                chunk = os.read(key.fd, 65_536)
                if not chunk:
                    self._selector.unregister(key.fileobj)
                data: bytearray = key.data
                data += chunk[: max(MAX_OUTPUT - len(data), 0)]
            timeout = 0.0

    @property
    def out(self) -> bytes:
        return bytes(self._data[0])

    @property
    def words(self) -> str:
        return bytes(self._data[1][-2000:]).decode("utf-8", "replace").strip()
