"""The live progress of a terminal."""

from __future__ import annotations

import threading
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from .progress import NullReporter, finished_line, one_line
from .words import size_words


class RichReporter(NullReporter):
    """A bar with text, memory and elapsed time for each running stage; a line for each finished."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False, soft_wrap=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[name]:<10}"),
            BarColumn(bar_width=20),
            TextColumn("{task.description}"),
            TextColumn("{task.fields[memory]}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def stage_started(self, name: str) -> None:
        """Show a bar."""
        with self._lock:
            if name in self._tasks:
                return
            if not self._tasks:
                self._progress.start()
            self._tasks[name] = self._progress.add_task("", total=None, name=name, memory="")

    def stage_progress(
        self, name: str, fraction: float | None, text: str, memory_bytes: int = 0
    ) -> None:
        """Move the bar."""
        with self._lock:
            task = self._tasks.get(name)
            if task is None:
                return
            self._progress.update(
                task,
                total=None if fraction is None else 1.0,
                completed=fraction or 0.0,
                description=escape(one_line(text)),
                memory=size_words(memory_bytes) if memory_bytes else "",
            )

    def stage_finished(
        self, name: str, text: str, seconds: float, peak_memory_bytes: int = 0, cached: bool = False
    ) -> None:
        """Replace the bar by the stage's line."""
        self._drop(name)
        line = finished_line(name, text, seconds, peak_memory_bytes, cached)
        self._console.print(line, markup=False)

    def stage_failed(self, name: str) -> None:
        """Take the bar away."""
        self._drop(name)
        self._console.print(f"  {name:<10} failed", markup=False)

    def note(self, text: str) -> None:
        """Print above the bars."""
        self._console.print(f"  {text}", markup=False)

    def close(self) -> None:
        """Take every bar away."""
        for name in list(self._tasks):
            self._drop(name)

    def _drop(self, name: str) -> None:
        with self._lock:
            task = self._tasks.pop(name, None)
            if task is None:
                return
            self._progress.remove_task(task)
            if not self._tasks:
                self._progress.stop()
