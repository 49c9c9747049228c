"""Keeps the server running: restarted when it dies, later and later while it keeps dying."""

from __future__ import annotations

from pathlib import Path

from .backoff import full_jitter
from .clock import Clock
from .server import ModelServer

BACKOFF_BASE, BACKOFF_CAP = 1.0, 60.0
STEADY_SECONDS = 60.0


class Keeper:
    """Supervises one server; `deaths` counts those in a row."""

    def __init__(self, server: ModelServer, clock: Clock) -> None:
        self.server = server
        self.deaths = 0
        self._clock = clock
        self._started_at = 0.0
        self._not_before = 0.0

    def keep(self, folder: Path | None, digest: str | None) -> None:
        """Let the server serve this bundle, or nothing where it is None."""
        if folder is None or digest is None:
            if self.server.digest is not None:
                self.server.stop()
            return
        if self.server.digest != digest:
            self.deaths, self._not_before = 0, 0.0
        elif self.server.alive:
            if self._clock.monotonic() - self._started_at > STEADY_SECONDS:
                self.deaths = 0
            return
        elif self._not_before <= self._started_at:
            self.deaths += 1
            pause = full_jitter(self.deaths, BACKOFF_BASE, BACKOFF_CAP)
            self._not_before = self._clock.monotonic() + pause
        if self._clock.monotonic() >= self._not_before:
            self._start(folder, digest)

    def _start(self, folder: Path, digest: str) -> None:
        self._started_at = self._not_before = self._clock.monotonic()
        try:
            self.server.start(folder, digest)
        except OSError:
            self.deaths += 1
            pause = full_jitter(self.deaths, BACKOFF_BASE, BACKOFF_CAP)
            self._not_before = self._started_at + pause
