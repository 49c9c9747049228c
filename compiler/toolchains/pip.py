"""Runs commands of a toolchain that is being made, and pip above all."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ..child import Child, clean_environment

# Settings of the user's pip that would install elsewhere or something else.
_REFUSED = (
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_USER",
    "PIP_REQUIREMENT",
    "PIP_CONSTRAINT",
    "PIP_NO_DEPS",
    "PIP_DRY_RUN",
    "PIP_UPGRADE",
    "PIP_REQUIRE_VIRTUALENV",
    "PIP_PYTHON",
    "PIP_QUIET",
)
_KEPT_LINES = 400
_SAY_EVERY = 0.5
_LINE_LIMIT = 4000

Say = Callable[[str], None]


def run_lines(
    command: Sequence[str | Path],
    *,
    say: Say,
    read: Callable[[str], str | None],
    keep: int,
    settings: Mapping[str, str] | None = None,
) -> tuple[int, list[str]]:
    """Run a command to its end; return its exit status and its last lines.

    `read` turns a line into a phase to `say`. `keep` is the lock's descriptor, inherited so that
    the lock outlives this process as long as the command does. Its group is killed on any
    exception, an interruption too. `settings` are environment variables beside the user's.
    """
    environment = {**_environment(), **(settings or {})}
    child = Child(command, environment=environment, stderr=subprocess.STDOUT, keep=(keep,))
    lines: list[str] = []
    try:
        told, text = 0.0, ""
        for line in _lines(child):
            lines.append(line)
            del lines[:-_KEPT_LINES]
            text = read(line) or text
            if text and time.monotonic() - told >= _SAY_EVERY:
                told = time.monotonic()
                say(text)
        code = child.wait()
    except BaseException:
        child.kill()
        raise
    child.close()
    return code, lines


def pip_command(python: Path, *arguments: str | Path) -> list[str | Path]:
    """Return a call of a toolchain's own pip that never asks or leaves the venv."""
    return [python, "-I", "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]


def install_command(
    python: Path, constraints: Path, *what: str | Path, compiled: Sequence[str] = ()
) -> list[str | Path]:
    """Return a call that installs wheels under constraints, and from source `compiled` alone."""
    return pip_command(
        python,
        "install",
        "--no-user",
        "--no-compile",
        "--progress-bar=off",
        "--only-binary=:all:",
        *(f"--no-binary={name}" for name in compiled),
        "--constraint",
        constraints,
        *what,
    )


def _environment() -> Mapping[str, str]:
    environment = clean_environment({"LC_ALL": "C.UTF-8", "COLUMNS": "200"})
    return {name: value for name, value in environment.items() if name not in _REFUSED}


def _lines(child: Child) -> Iterator[str]:
    """Yield lines as they come; one without an end is cut, not gathered."""
    stdout = child.popen.stdout
    rest = b""
    while stdout is not None:
        data = os.read(stdout.fileno(), 1 << 14)
        if not data:
            break
        *whole, rest = (rest + data).split(b"\n")
        rest = rest[-_LINE_LIMIT:]
        yield from (line[:_LINE_LIMIT].decode("utf-8", "replace").rstrip() for line in whole)
    if rest:
        yield rest.decode("utf-8", "replace").rstrip()
