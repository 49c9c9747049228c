"""Runs the stages of a compile: each once, in its toolchain, as a watched child process."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from edgeward.errors import StageError
from edgeward.runtimes.bundle.canonical import JSON

from . import deaths
from .environment import own_environment
from .file_lock import FileLock
from .limits import Limits
from .process import Answer, Request, Worker
from .progress import Reporter
from .stage import StageInput, StageResult, StageSpec, stage_key
from .stage_cache import Draft, StageCache
from .toolchains.manager import Toolchains
from .toolchains.toolchain import Toolchain

__all__ = ["JSON", "Limits", "StageInput", "StageResult", "StageRunner", "StageSpec"]

_OWN = "python"
_KEPT_LOGS = 40
_POLL = 0.05


class StageRunner:
    """Runs stages and keeps what they leave; a context manager that ends its workers.

    One worker per toolchain is kept and used again, so that a converter's imports are paid for
    once; stages that run at the same time (from threads) get workers of their own.
    """

    def __init__(
        self,
        toolchains: Toolchains,
        cache: Path,
        reporter: Reporter,
        limits: Limits | None = None,
        threads: int | None = None,
    ) -> None:
        self._toolchains = toolchains
        self._stages = StageCache(cache)
        self._logs = cache / "logs"
        self._reporter = reporter
        self._limits = limits if limits is not None else Limits()
        self._threads = threads
        self._idle: dict[str, list[Worker]] = {}
        self._holds: dict[str, FileLock] = {}
        self._guard = threading.Lock()
        self._workers = 0
        try:
            self._stages.sweep()
        except OSError as error:
            raise StageError(
                f"the cache {cache} cannot be used",
                why=str(error),
                next="set EDGEWARD_CACHE to a folder that can be written",
            ) from error
        _prune_logs(self._logs)

    def __enter__(self) -> StageRunner:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """End every worker and let go of every entry."""
        with self._guard:
            workers = [worker for pool in self._idle.values() for worker in pool]
            holds = list(self._holds.values())
            self._idle.clear()
            self._holds.clear()
        for worker in workers:
            worker.kill()
        for hold in holds:
            hold.release()

    def key(self, spec: StageSpec) -> str:
        """Return the digest that decides whether the stage was run before."""
        try:
            return stage_key(spec, self._toolchain(spec).digest)
        except (TypeError, ValueError) as error:
            raise StageError(
                f"the parameters of {spec.name} are not JSON", why=str(error)
            ) from error

    def run(self, spec: StageSpec) -> StageResult:
        """Return the stage's result, running it only where it was never finished.

        Raises whatever edgeward error the stage raised, StageError for any other, a full disk and
        parameters that are not JSON, StageCrashedError, StageLimitError, and ToolchainError where
        its toolchain cannot be made.
        """
        key = self.key(spec)
        try:
            return self._run(spec, key)
        except OSError as error:
            raise _disk_error(spec, error) from error

    def _run(self, spec: StageSpec, key: str) -> StageResult:
        started = time.monotonic()
        waited = False
        while True:
            found = self._use(spec, key)
            if found is not None:
                self._finished(spec, found, time.monotonic() - started)
                return found
            made = self._make_alone(spec, key)
            if made is not None:
                self._hold(spec, key)
                if self._stages.folder(key).exists():
                    return made
                continue
            if not waited:
                self._waits(spec)
            waited = True
            time.sleep(_POLL)

    def _make_alone(self, spec: StageSpec, key: str) -> StageResult | None:
        """Run the stage, alone among all processes; None where another is at it or finished it.

        It never blocks: a lock that others hold shared means an entry in use, not one to wait for.
        """
        lock = self._stages.lock(key)
        if not lock.try_acquire():
            return None
        with lock:
            return None if self._stages.load(key) is not None else self._make(spec, key)

    def _use(self, spec: StageSpec, key: str) -> StageResult | None:
        """Return the finished stage and hold it, None where there is none."""
        if not self._stages.folder(key).exists():
            return None
        self._hold(spec, key)
        found = self._stages.load(key)
        if found is None:
            self._let_go(key)
        return found

    def _hold(self, spec: StageSpec, key: str) -> None:
        with self._guard:
            if key in self._holds:
                return
        lock = self._stages.lock(key)
        lock.acquire(shared=True, on_wait=lambda: self._waits(spec))
        with self._guard:
            spare = self._holds.setdefault(key, lock) is not lock
        if spare:
            lock.release()

    def _let_go(self, key: str) -> None:
        with self._guard:
            hold = self._holds.pop(key, None)
        if hold is not None:
            hold.release()

    def _make(self, spec: StageSpec, key: str) -> StageResult:
        toolchain = self._toolchain(spec)
        self._reporter.stage_started(spec.name)
        started = time.monotonic()
        try:
            draft = self._stages.begin(key)
            try:
                resume = self._stages.unfinished(key) if spec.resumes else None
                answer = self._ask(spec, toolchain, draft, resume)
                seconds = time.monotonic() - started
                record = _record(spec, toolchain, answer, seconds)
                result = replace(self._stages.commit(key, draft, record), cached=False)
            except BaseException:
                self._stages.abandon(draft)
                raise
        except BaseException:
            self._reporter.stage_failed(spec.name)
            raise
        self._finished(spec, result, seconds)
        return result

    def _ask(
        self, spec: StageSpec, toolchain: Toolchain, draft: Draft, resume: Path | None
    ) -> Answer:
        request = Request(
            stage=spec.name,
            call=spec.call,
            inputs={name: source.path for name, source in spec.inputs.items()},
            params=dict(spec.params),
            out=draft.out,
            scratch=draft.scratch,
            estimate_bytes=spec.estimate_bytes,
            resume=resume,
        )

        def progress(fraction: float | None, text: str, memory_bytes: int) -> None:
            self._reporter.stage_progress(spec.name, fraction, text, memory_bytes)

        worker = self._borrow(toolchain)
        try:
            return worker.call(request, self._limits, progress)
        finally:
            self._give_back(toolchain, worker)

    def _toolchain(self, spec: StageSpec) -> Toolchain:
        if spec.toolchain is None:
            return own_environment(_OWN)
        return self._toolchains.ensure(spec.toolchain, self._reporter)

    def _borrow(self, toolchain: Toolchain) -> Worker:
        with self._guard:
            pool = self._idle.setdefault(toolchain.digest, [])
            while pool:
                worker = pool.pop()
                if worker.is_alive():
                    return worker
                worker.kill()
            self._workers += 1
            name = f"{toolchain.name}-{os.getpid()}-{time.time_ns()}-{self._workers}.log"
        return self._start(toolchain, self._logs / name)

    def _start(self, toolchain: Toolchain, log: Path) -> Worker:
        """Start a worker that holds its toolchain's locks: nobody rebuilds it under its feet."""
        locks = [FileLock(path) for path in toolchain.locks]
        try:
            for lock in locks:
                lock.acquire(shared=True)
            keep = [lock.fileno() for lock in locks]
            return Worker(toolchain.python, log, threads=self._threads, keep=keep)
        finally:
            for lock in locks:
                lock.release()

    def _give_back(self, toolchain: Toolchain, worker: Worker) -> None:
        if not worker.is_alive():
            worker.kill()
            return
        with self._guard:
            self._idle.setdefault(toolchain.digest, []).append(worker)

    def _waits(self, spec: StageSpec) -> None:
        self._reporter.note(f"{spec.name}: another process is at this stage, waiting")

    def _finished(self, spec: StageSpec, result: StageResult, seconds: float) -> None:
        summary = result.data.get("summary")
        text = summary if isinstance(summary, str) else ""
        self._reporter.stage_finished(
            spec.name, text, seconds, result.peak_memory_bytes, result.cached
        )


def _record(
    spec: StageSpec, toolchain: Toolchain, answer: Answer, seconds: float
) -> Mapping[str, object]:
    return {
        "name": spec.name,
        "call": spec.call,
        "version": spec.version,
        "params": spec.params,
        "inputs": {name: source.digest for name, source in spec.inputs.items()},
        "toolchain": {"name": toolchain.name, "digest": toolchain.digest},
        "versions": dict(toolchain.versions),
        "data": answer.data,
        "metrics": answer.metrics,
        "seconds": seconds,
        "peak_memory_bytes": answer.peak_memory_bytes,
    }


def _disk_error(spec: StageSpec, error: OSError) -> StageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return deaths.disk_full(spec.name, str(error))
    return StageError(
        f"{spec.name} could not be kept: {error.strerror or error}",
        why=str(error.filename or ""),
        next="edgeward doctor",
    )


def _prune_logs(folder: Path) -> None:
    with suppress(OSError):
        logs = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime)
        for log in logs[:-_KEPT_LOGS]:
            log.unlink(missing_ok=True)
