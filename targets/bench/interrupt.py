"""Ctrl-C that is not lost: raised in the middle of a fork, Python's own hooks would swallow it."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class Interrupts:
    """Remembers Ctrl-C while it is entered; `check` raises KeyboardInterrupt where one came.

    A second one is raised where it falls.
    """

    def __init__(self) -> None:
        self._heard = False
        self._before: object = None
        # Elsewhere no handler can be set, and none is called.
        self._here = threading.current_thread() is threading.main_thread()

    def check(self) -> None:
        """Raise what came."""
        if self._heard:
            raise KeyboardInterrupt

    def __enter__(self) -> Interrupts:
        """Listen."""
        if self._here:
            self._before = signal.signal(signal.SIGINT, self._interrupted)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the signal back to who had it before."""
        if self._here and callable(self._before):
            signal.signal(signal.SIGINT, self._before)

    def _interrupted(self, _number: int, _frame: FrameType | None) -> None:
        if self._heard:
            raise KeyboardInterrupt
        self._heard = True
