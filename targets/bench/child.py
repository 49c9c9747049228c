"""One combination in a process of its own, limited; how it ended, in words and exit codes."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeward.errors import (
    BundleError,
    DoesNotFitError,
    EdgewardError,
    EngineError,
    ProofError,
    TrustError,
    UsageError,
)
from edgeward.runtimes.child import Ended, run_limited
from edgeward.targets.sysfs import fields_of, read_text

from .host import ROOT
from .request import Request

WORKER = "edgeward.targets.bench.worker"
DEFAULT_SECONDS = 3600.0
_FALLBACK_MEMORY = 2 * 2**30
_KINDS: dict[int, type[EdgewardError]] = {
    1: BundleError,
    2: UsageError,
    3: ProofError,
    4: DoesNotFitError,
    5: EngineError,
    6: TrustError,
}


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may take: seconds and bytes, and the interpreter that has the engine.

    `between` is called while it runs, and may raise.
    """

    seconds: float = DEFAULT_SECONDS
    memory_bytes: int = _FALLBACK_MEMORY
    python: str = sys.executable
    between: Callable[[], None] = _nothing


def available_bytes(root: Path = ROOT) -> int:
    """Return the memory that can be had now without swapping, 2 GiB where nothing tells."""
    told = fields_of(read_text(root, "proc/meminfo") or "").get("MemAvailable", "")
    number = told.partition(" ")[0]
    return int(number) * 1024 if number.isdigit() else _FALLBACK_MEMORY


def measure_alone(request: Request, limits: Limits) -> Mapping[str, Any]:
    """Measure in a child and return its figures.

    Raises what the child would have raised; DoesNotFitError where memory ended it, EngineError
    where it cannot be started, EdgewardError where it died or took too long.
    """
    command = [limits.python, "-m", WORKER, request.to_json()]
    try:
        ended = run_limited(
            command,
            seconds=limits.seconds,
            memory_bytes=limits.memory_bytes,
            clock=time,
            between=limits.between,
        )
    except OSError as error:
        raise EngineError(
            f"{limits.python} cannot be started", why=error.strerror or str(error)
        ) from None
    return _document(ended, request, limits)


def _document(ended: Ended, request: Request, limits: Limits) -> Mapping[str, Any]:
    if ended.stopped:
        over_memory = ended.peak_memory_bytes > limits.memory_bytes
        kind: type[EdgewardError] = DoesNotFitError if over_memory else EdgewardError
        raise kind(
            f"{request.bundle} was stopped ({request.words})",
            why=ended.stopped,
            next="give --memory, or a smaller --batch or --prompt" if over_memory else "",
        )
    if ended.status == -signal.SIGKILL:
        raise DoesNotFitError(
            f"{request.bundle} was killed ({request.words})",
            why=f"as Linux does where memory ends; it had taken {ended.peak_memory_bytes} bytes",
        )
    document = _parsed(ended.output)
    if "error" in document:
        told = document["error"]
        kind = _KINDS.get(int(told["code"]), EdgewardError)
        raise kind(str(told["what"]), why=str(told["why"]), next=str(told["next"]))
    if ended.status or not document:
        how = f"signal {-ended.status}" if ended.status < 0 else f"status {ended.status}"
        raise EdgewardError(
            f"Measuring {request.bundle} ended with {how} ({request.words})",
            why=ended.errors[-500:],
        )
    return document


def _parsed(output: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(output)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
