"""A worker process as its parent sees it: one at a time request, watched all along."""

from __future__ import annotations

import importlib.util
import json
import os
import select
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import edgeward
from edgeward.errors import StageError

from . import deaths, memory
from .child import Child, clean_environment
from .limits import Limits
from .wire import (
    Failure,
    LineReader,
    LineTooLongError,
    Log,
    Message,
    Metric,
    Progress,
    Result,
    parse,
)
from .worker import BOOTSTRAP

_TICK = 0.1
_READ_BYTES = 1 << 16
_LOG_CAP_BYTES = 64 << 20
_TAIL_BYTES = 8 << 10
_TAIL_LINES = 3
_MARGIN_BYTES = 256 << 20
_MARGIN_SHARE = 0.05
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
)
_QUIET = {
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}

OnProgress = Callable[["float | None", str, int], None]


@dataclass(frozen=True, slots=True)
class Request:
    """One call of a stage's function."""

    stage: str
    call: str
    inputs: Mapping[str, Path]
    params: Mapping[str, Any]
    out: Path
    scratch: Path
    estimate_bytes: int | None = None
    resume: Path | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the call returned and cost."""

    data: dict[str, Any]
    metrics: dict[str, float]
    peak_memory_bytes: int


@dataclass(slots=True)
class _Watch:
    """What one request has shown so far."""

    request: Request
    limits: Limits
    limit_bytes: int | None
    deadline: float | None
    on_progress: OnProgress
    metrics: dict[str, float] = field(default_factory=dict)
    fraction: float | None = None
    text: str = ""
    peak_bytes: int = 0


class Worker:
    """A process in a toolchain that runs one request after another.

    It never uses the network (`HF_HUB_OFFLINE`): stages are pure functions of their inputs. `keep`
    are descriptors that it holds open as long as it lives. Raises OSError where the process cannot
    be started.
    """

    def __init__(
        self, python: Path, log: Path, *, threads: int | None = None, keep: Sequence[int] = ()
    ) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        counts = dict.fromkeys(_THREAD_VARIABLES, str(threads)) if threads else {}
        origin = edgeward.__file__
        with log.open("ab") as sink:
            self._child = Child(
                [python, "-s", "-c", BOOTSTRAP, origin],
                environment=clean_environment({**_QUIET, **counts}),
                stderr=sink,
                keep=keep,
            )
        self._reader = LineReader()
        self._number = 0

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._child.pid

    def call(self, request: Request, limits: Limits, on_progress: OnProgress) -> Answer:
        """Run one request to its end.

        Raises the edgeward error that the function raised, StageError for any other,
        StageCrashedError when the process died, StageLimitError over a limit. After anything but
        an answer, and after an interruption, the process and its whole group are gone.
        """
        self._number += 1
        memory.reset_peak(self.pid)
        deadline = None if limits.seconds is None else time.monotonic() + limits.seconds
        watch = _Watch(request, limits, self._memory_limit(limits), deadline, on_progress)
        try:
            self._send(request)
            end = self._until_end(watch)
        except BaseException:
            self.kill()
            raise
        if isinstance(end, Failure):
            raise deaths.raised(self._setting(watch), end)
        peak = max(watch.peak_bytes, memory.peak_bytes(self.pid)) or end.peak_bytes
        return Answer(end.data, watch.metrics, peak)

    def is_alive(self) -> bool:
        """Tell whether it can take another request."""
        return self._child.exit_code() is None

    def kill(self) -> None:
        """End the process and everything that it started."""
        self._child.kill()

    def _send(self, request: Request) -> None:
        line = json.dumps(
            {
                "id": self._number,
                "call": request.call,
                "origin": _origin(request.call),
                "inputs": {name: str(path) for name, path in request.inputs.items()},
                "params": request.params,
                "out": str(request.out),
                "scratch": str(request.scratch),
                "resume": str(request.resume) if request.resume else None,
            }
        )
        stdin = self._child.popen.stdin
        try:
            if stdin is not None:
                _write_all(stdin.fileno(), line.encode() + b"\n")
        except BrokenPipeError:
            # It died before it read: what it said is told by the reading side.
            return

    def _until_end(self, watch: _Watch) -> Result | Failure:
        sampled = 0.0
        while True:
            for message in self._messages(watch):
                if isinstance(message, (Result, Failure)):
                    self._sample(watch)
                    return message
                self._note(watch, message)
            now = time.monotonic()
            if now - sampled >= _TICK:
                sampled = now
                self._sample(watch)
            if watch.deadline is not None and now > watch.deadline:
                raise deaths.too_slow(self._setting(watch), watch.limits.seconds or 0.0)

    def _messages(self, watch: _Watch) -> list[Message]:
        """Wait a tick for bytes and return the messages they complete."""
        stdout = self._child.popen.stdout
        if stdout is None:
            raise StageError("a worker without a pipe")
        gone = self._child.exit_code()
        poll = select.poll()
        poll.register(stdout, select.POLLIN)
        ready = poll.poll(0.0 if gone is not None else _TICK * 1000)
        data = os.read(stdout.fileno(), _READ_BYTES) if ready else b""
        if not data and (ready or gone is not None):
            code = self._child.wait()
            raise deaths.died(self._setting(watch), code)
        try:
            found = [parse(line, self._number) for line in self._reader.feed(data)]
        except LineTooLongError:
            raise deaths.babbled(self._setting(watch)) from None
        return [message for message in found if message is not None]

    def _note(self, watch: _Watch, message: Message) -> None:
        if isinstance(message, Progress):
            watch.fraction, watch.text = message.fraction, message.text
        elif isinstance(message, Metric):
            watch.metrics[message.name] = message.value
        elif isinstance(message, Log):
            with self.log.open("a", encoding="utf-8") as sink:
                sink.write(f"{message.text}\n")

    def _sample(self, watch: _Watch) -> None:
        use = memory.tree_use(self.pid)
        watch.peak_bytes = max(watch.peak_bytes, use.resident_bytes)
        watch.on_progress(watch.fraction, watch.text, use.resident_bytes)
        if self.log.stat().st_size > _LOG_CAP_BYTES:
            os.truncate(self.log, 0)
        if watch.limit_bytes is not None and use.private_bytes > watch.limit_bytes:
            raise deaths.out_of_memory(self._setting(watch))

    def _memory_limit(self, limits: Limits) -> int | None:
        """Return the limit asked for, or what is available now less a margin for the rest."""
        if limits.memory_bytes is not None:
            return limits.memory_bytes
        available = memory.available_bytes()
        if available is None:
            return None
        margin = max(_MARGIN_BYTES, int(available * _MARGIN_SHARE))
        return max(0, available - margin) + memory.tree_use(self.pid).private_bytes

    def _setting(self, watch: _Watch) -> deaths.Setting:
        return deaths.Setting(
            stage=watch.request.stage,
            log=self.log,
            last_lines=last_lines(self.log),
            peak_bytes=max(watch.peak_bytes, memory.peak_bytes(self.pid)),
            limit_bytes=watch.limit_bytes,
            estimate_bytes=watch.request.estimate_bytes,
        )


def last_lines(log: Path, count: int = _TAIL_LINES) -> tuple[str, ...]:
    """Return the last lines of a log that say something, cut to a readable length."""
    try:
        with log.open("rb") as source:
            source.seek(0, os.SEEK_END)
            source.seek(max(0, source.tell() - _TAIL_BYTES))
            text = source.read().decode("utf-8", "replace")
    except OSError:
        return ()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return tuple(line[:200] for line in lines[-count:])


def _origin(call: str) -> str | None:
    """Return the file of the call's top-level package, for workers that do not hold it."""
    spec = importlib.util.find_spec(call.partition(":")[0].partition(".")[0])
    return spec.origin if spec is not None and spec.has_location else None


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
