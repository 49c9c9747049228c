"""Moves a recorder's deltas to the spool now and then, off the request's path."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Any

from edgeward.errors import EdgewardError, UsageError

from .recorder import Recorder
from .spool import Spool

SHORTEST_SECONDS, LONGEST_SECONDS = 0.05, 86_400
_KEPT_IN_MEMORY = 100

log = logging.getLogger(__name__)


class Flusher:
    """A thread that flushes every `seconds`, and once more when it is closed."""

    def __init__(self, recorder: Recorder, spool: Spool, seconds: float) -> None:
        if not SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS:
            raise UsageError(
                f"Statistics are flushed every {SHORTEST_SECONDS} to {LONGEST_SECONDS} seconds, "
                f"not {seconds}"
            )
        self._recorder, self._spool, self._seconds = recorder, spool, seconds
        self._unsent: deque[dict[str, Any]] = deque(maxlen=_KEPT_IN_MEMORY)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="edgeward-stats", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread and flush what is left."""
        self._stop.set()
        self._thread.join()

    def _loop(self) -> None:
        while not self._stop.wait(self._seconds):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        delta = self._recorder.take_delta()
        if delta is not None:
            self._unsent.append(delta)
        try:
            while self._unsent:
                self._spool.append(self._unsent[0])
                self._unsent.popleft()
        except EdgewardError as error:
            log.warning("statistics wait in memory: %s", error)
