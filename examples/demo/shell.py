"""Runs `edgeward` as a user would, showing each command; ends what it started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from rich.console import Console

T = TypeVar("T")

EDGEWARD = [sys.executable, "-m", "edgeward"]
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


class DemoError(Exception):
    """A step did not do what the demo shows; the text says which and where its log is."""


class Shell:
    """Commands in the foreground, services in the background; a context manager."""

    def __init__(self, console: Console, logs: Path) -> None:
        self._console = console
        self._logs = logs
        self._services: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Shell:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End every service, last started first."""
        for service in reversed(self._services):
            service.send_signal(signal.SIGTERM)
        for service in reversed(self._services):
            _wait_or_kill(service)

    def run(self, *arguments: str | Path, expect: int = 0, show: bool = True) -> str:
        """Run one command to its end and return its stdout."""
        words = [str(argument) for argument in arguments]
        if show:
            self._console.print(f"[bold]$ edgeward {_shown(words)}[/bold]", highlight=False)
        with tempfile.TemporaryFile("w+") as quiet:
            with subprocess.Popen(
                [*EDGEWARD, *words],
                stdout=subprocess.PIPE,
                stderr=None if show else quiet,
                text=True,
            ) as process:
                output = self._pass_on(process, show)
            quiet.seek(0)
            said = quiet.read()
        if process.returncode != expect:
            raise DemoError(f"edgeward {_shown(words)} ended with {process.returncode}\n{said}")
        return output

    def _pass_on(self, process: subprocess.Popen[str], show: bool) -> str:
        lines: list[str] = []
        for line in process.stdout or ():
            lines.append(line)
            if show:
                self._console.print(line.rstrip(), highlight=False, markup=False)
        return "".join(lines)

    def json(self, *arguments: str | Path) -> Any:
        """Run a command that prints JSON, quietly."""
        return json.loads(self.run(*arguments, show=False))

    def start(self, name: str, *arguments: str | Path, python: Path | None = None) -> None:
        """Start a service; its output goes to a log of its name."""
        words = [str(argument) for argument in arguments]
        self._console.print(f"[bold]$ edgeward {_shown(words)} &[/bold]", highlight=False)
        command = [str(python), "-m", "edgeward"] if python else EDGEWARD
        with (self._logs / f"{name}.log").open("wb") as log:
            self._services.append(
                subprocess.Popen(
                    [*command, *words],
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    env={**os.environ, **_ONE_THREAD},
                )
            )

    def wait_for(self, what: str, ready: Callable[[], T | None], seconds: float = 60.0) -> T:
        """Ask again and again until `ready` gives something."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = ready()
            if found is not None:
                return found
            time.sleep(0.2)
        raise DemoError(f"{what} did not come about in {seconds:.0f} s; logs: {self._logs}")


def _wait_or_kill(service: subprocess.Popen[bytes]) -> None:
    try:
        service.wait(timeout=10)
    except subprocess.TimeoutExpired:
        service.kill()


def _shown(words: list[str]) -> str:
    here = str(Path.cwd()) + "/"
    home = str(Path.home())
    return " ".join(word.replace(here, "").replace(home, "~") for word in words)
