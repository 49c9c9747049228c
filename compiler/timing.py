"""Reporting a piece of work that the parent does itself, as the stages are reported."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .progress import NullReporter


@contextmanager
def timed_stage(reporter: NullReporter, name: str) -> Iterator[Callable[[str], None]]:
    """Report `name` as a stage; the value it gives takes the finished line's text."""
    text = ""

    def say(words: str) -> None:
        nonlocal text
        text = words

    reporter.stage_started(name)
    began = time.monotonic()
    try:
        yield say
    except BaseException:
        reporter.stage_failed(name)
        raise
    reporter.stage_finished(name, text, time.monotonic() - began)
