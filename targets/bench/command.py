"""A command of somebody else's, run once a measurement: its own figures, or its wall time."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeward.errors import EdgewardError, MissingError, UsageError
from edgeward.runtimes.child import die_with, kill_group

MOST_OUTPUT = 16 * 2**20
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Told:
    """One run: its seconds from start to end, and the rows of llama-bench where it printed some."""

    seconds: float
    rows: tuple[Mapping[str, Any], ...] = ()

    def per_token_ns(self, kind: str) -> float | None:
        """Return what a token of the prompt (`n_prompt`) or the answer (`n_gen`) took, if told."""
        other = "n_gen" if kind == "n_prompt" else "n_prompt"
        for row in self.rows:
            tokens, time_ns = row.get(kind), row.get("avg_ns")
            if not row.get(other) and _positive(tokens) and _positive(time_ns):
                return float(time_ns) / float(tokens)  # type: ignore[arg-type]
        return None


def parse_command(text: str) -> list[str]:
    """Return a command's arguments; no shell reads it. UsageError where it is none."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{text[:80]!a} is no command", why=str(error)) from None
    if not words:
        raise UsageError("An empty command was given to measure against")
    return words


def run_once(
    command: Sequence[str], seconds: float, between: Callable[[], None] = lambda: None
) -> Told:
    """Run a command to its end; `between` is called all along and may raise.

    Raises MissingError where it cannot be started, EdgewardError where it fails or takes too long;
    it is gone in every case.
    """
    parent, begun = os.getpid(), time.perf_counter()
    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=lambda: die_with(parent),
        )
    except OSError as error:
        raise MissingError(
            f"{command[0][:200]} cannot be started",
            why=error.strerror or str(error),
            next="--against takes a bundle's folder, or a command with its arguments",
        ) from None
    try:
        output, errors = _communicated(process, begun + seconds, between)
        took = time.perf_counter() - begun
    except TimeoutError:
        raise EdgewardError(
            f"{command[0][:200]} did not end within {seconds:g} seconds", next="--timeout SECONDS"
        ) from None
    finally:
        kill_group(process)
    if process.returncode:
        raise EdgewardError(
            f"{command[0][:200]} ended with status {process.returncode}",
            why=errors[-500:].decode("utf-8", "replace").strip(),
        )
    return Told(took, llama_rows(output))


def llama_rows(output: bytes) -> tuple[Mapping[str, Any], ...]:
    """Return the rows of llama-bench's `-o json` or `-o jsonl`; none of anything else."""
    if len(output) > MOST_OUTPUT:
        return ()
    try:
        text = output.decode("utf-8").strip()
        if text.startswith("["):
            documents = json.loads(text)
        else:
            documents = [json.loads(line) for line in text.splitlines()]
    except (ValueError, RecursionError):
        return ()
    rows = [row for row in documents if isinstance(row, dict) and "avg_ns" in row]
    return tuple(rows) if len(rows) == len(documents) else ()


def _communicated(
    process: subprocess.Popen[bytes], until: float, between: Callable[[], None]
) -> tuple[bytes, bytes]:
    while True:
        between()
        try:
            return process.communicate(timeout=_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            if time.perf_counter() > until:
                raise TimeoutError from None


def _positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
