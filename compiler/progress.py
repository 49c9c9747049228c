"""How a compile shows itself: live on a terminal, one line a stage elsewhere, or not at all."""

from __future__ import annotations

from types import TracebackType
from typing import IO, Protocol, TextIO

from .words import size_words, time_words

_NAME_WIDTH = 10
_TEXT_WIDTH = 62
_PEAK_WIDTH = 15
_TIME_WIDTH = 12


class Reporter(Protocol):
    """Told by the stage runner and the toolchains what happens; from any thread."""

    def stage_started(self, name: str) -> None:
        """A stage begins."""

    def stage_progress(
        self, name: str, fraction: float | None, text: str, memory_bytes: int = 0
    ) -> None:
        """A stage is `fraction` (0 to 1, None: unknown) through and uses `memory_bytes`."""

    def stage_finished(
        self, name: str, text: str, seconds: float, peak_memory_bytes: int = 0, cached: bool = False
    ) -> None:
        """A stage ended well."""

    def stage_failed(self, name: str) -> None:
        """A stage ended with an error, which the caller prints."""

    def note(self, text: str) -> None:
        """Something the user should know that belongs to no stage."""

    def close(self) -> None:
        """Leave the screen in order."""


class NullReporter:
    """Says nothing; the base of those that say something."""

    def __enter__(self) -> NullReporter:
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

    def stage_started(self, name: str) -> None:
        """Say nothing."""

    def stage_progress(
        self, name: str, fraction: float | None, text: str, memory_bytes: int = 0
    ) -> None:
        """Say nothing."""

    def stage_finished(
        self, name: str, text: str, seconds: float, peak_memory_bytes: int = 0, cached: bool = False
    ) -> None:
        """Say nothing."""

    def stage_failed(self, name: str) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def close(self) -> None:
        """Have nothing to close."""


class PlainReporter(NullReporter):
    """One line for each finished stage and each note."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def stage_finished(
        self, name: str, text: str, seconds: float, peak_memory_bytes: int = 0, cached: bool = False
    ) -> None:
        """Write the stage's line."""
        self._line(finished_line(name, text, seconds, peak_memory_bytes, cached))

    def stage_failed(self, name: str) -> None:
        """Write that it failed."""
        self._line(f"  {name:<{_NAME_WIDTH}} failed")

    def note(self, text: str) -> None:
        """Write the note."""
        self._line(f"  {text}")

    def _line(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


def finished_line(
    name: str, text: str, seconds: float, peak_memory_bytes: int = 0, cached: bool = False
) -> str:
    """Return the line that a finished stage leaves behind."""
    said = one_line(f"{text} (cached)".strip() if cached else text)
    peak = f"peak {size_words(peak_memory_bytes)}" if peak_memory_bytes and not cached else ""
    columns = f"{said:<{_TEXT_WIDTH}} {peak:<{_PEAK_WIDTH}} {time_words(seconds):>{_TIME_WIDTH}}"
    return f"  {name:<{_NAME_WIDTH}} {columns}"


def one_line(text: str) -> str:
    """Return text from elsewhere without line breaks and control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()


def reporter_for(stream: TextIO, quiet: bool = False) -> NullReporter:
    """Choose the reporter for a stream (stderr): live on a terminal, plain elsewhere."""
    if quiet:
        return NullReporter()
    if not stream.isatty():
        return PlainReporter(stream)
    from .progress_live import RichReporter

    return RichReporter(stream)
