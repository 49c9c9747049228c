"""Turns the end of a stage's process into words. Rules only."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

import edgeward.errors
from edgeward.errors import EdgewardError, StageCrashedError, StageError, StageLimitError

from .wire import Failure
from .words import size_words, time_words

NEARLY_FULL = 0.85
_HEADROOM = 1.25
_MEANINGS = {
    signal.SIGSEGV: "it touched memory that is not its own (a fault in native code)",
    signal.SIGBUS: "it read a file that is shorter than its map, or the disk failed",
    signal.SIGABRT: "native code gave up on a failed check",
    signal.SIGILL: "it met an instruction that this processor does not have",
    signal.SIGFPE: "native code divided by zero",
    signal.SIGTERM: "somebody ended it",
    signal.SIGKILL: "it was killed from outside",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """What is known about a stage when it ends badly."""

    stage: str
    log: Path
    last_lines: tuple[str, ...]
    peak_bytes: int
    limit_bytes: int | None
    estimate_bytes: int | None

    @property
    def where(self) -> str:
        """The log's name, for the end of an explanation."""
        return f"Log: {self.log}"


def out_of_memory(at: Setting) -> StageLimitError:
    """Return the error for a stage that used all the memory there was."""
    limit = f" of {size_words(at.limit_bytes)}" if at.limit_bytes else ""
    if at.estimate_bytes and at.estimate_bytes > at.peak_bytes:
        needs = f"It needs about {size_words(at.estimate_bytes)}."
    else:
        needs = f"It needs at least {size_words(at.peak_bytes * _HEADROOM)}."
    return StageLimitError(
        f"{at.stage} ran out of memory: used {size_words(at.peak_bytes)}{limit}",
        why=f"{needs} {at.where}",
        next="close other programs or raise --max-memory-gib, then run the same command again: "
        "finished stages are kept",
    )


def too_slow(at: Setting, seconds: float) -> StageLimitError:
    """Return the error for a stage that went over its time."""
    return StageLimitError(
        f"{at.stage} did not end within {time_words(seconds)}",
        why=f"{_last(at)}{at.where}",
        next="run the same command again with a higher --max-seconds: finished stages are kept",
    )


def died(at: Setting, code: int) -> StageError:
    """Return the error for a process that ended without an answer; -N is death by signal N."""
    if code >= 0:
        return StageCrashedError(
            f"{at.stage} ended without an answer (exit status {code})",
            why=f"{_last(at)}{at.where}",
            next=f"less {at.log}",
        )
    number = -code
    full = at.limit_bytes is not None and at.peak_bytes >= NEARLY_FULL * at.limit_bytes
    if number == signal.SIGKILL and full:
        return out_of_memory(at)
    try:
        name, meaning = signal.Signals(number).name, _MEANINGS.get(signal.Signals(number), "")
    except ValueError:
        name, meaning = f"signal {number}", ""
    why = f"{meaning[:1].upper()}{meaning[1:]}. " if meaning else ""
    return StageCrashedError(
        f"{at.stage} was ended by {name} at {size_words(at.peak_bytes)}",
        why=f"{why}{_last(at)}{at.where}",
        next=f"less {at.log}",
    )


def babbled(at: Setting) -> StageCrashedError:
    """Return the error for a process that does not keep to the protocol."""
    return StageCrashedError(
        f"{at.stage} wrote a line without an end instead of an answer",
        why=f"{_last(at)}{at.where}",
        next=f"less {at.log}",
    )


def raised(at: Setting, failure: Failure) -> EdgewardError:
    """Return the error that the stage itself raised."""
    if failure.out_of_memory:
        return out_of_memory(at)
    if failure.disk_full:
        return disk_full(at.stage, failure.text)
    for name in failure.classes:
        kind = getattr(edgeward.errors, name, None)
        if isinstance(kind, type) and issubclass(kind, EdgewardError):
            return kind(failure.what or at.stage, why=failure.why, next=failure.next)
    kind_name = failure.classes[0] if failure.classes else "error"
    last = failure.text.strip().splitlines() or ["no message"]
    return StageError(
        f"{at.stage} failed: {kind_name}: {last[-1]}", why=at.where, next=f"less {at.log}"
    )


def disk_full(stage: str, detail: str) -> StageError:
    """Return the error for a stage that could not write."""
    return StageError(
        f"{stage} could not write: the disk is full",
        why=detail,
        next="edgeward doctor --prune 10GB, or set EDGEWARD_CACHE to a larger disk",
    )


def _last(at: Setting) -> str:
    return f"Last said: {' | '.join(at.last_lines)}. " if at.last_lines else ""
