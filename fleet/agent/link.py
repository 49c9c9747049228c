"""The agent's line to the broker, as far as the agent cares; it may be down at any time."""

from __future__ import annotations

from typing import Protocol


class Ticket(Protocol):
    """A message on its way."""

    def is_published(self) -> bool:
        """Whether it left this machine."""
        ...


class Link(Protocol):
    """Never raises, never blocks for long; what cannot be sent now is the caller's to keep."""

    @property
    def connected(self) -> bool:
        """Whether messages go out at this time."""
        ...

    def pump(self, seconds: float) -> None:
        """Read and write for up to so many seconds; reconnect when it is time."""
        ...

    def report(self, data: bytes) -> None:
        """Send a reported document, now or when the line is up again; the newest replaces all."""
        ...

    def send_stats(self, data: bytes) -> Ticket | None:
        """Send one interval of statistics; None where it was not taken."""
        ...

    def send_result(self, data: bytes) -> None:
        """Send a job's report where the line is up; the caller keeps it until it is known."""
        ...

    def hinted(self) -> bool:
        """Say once whether a desired document or a job came since the last call."""
        ...

    def close(self) -> None:
        """Say good-bye and hang up."""
        ...


class NoLink:
    """A device without a broker: it polls."""

    def __init__(self, sleep_for: Sleeper) -> None:
        self._sleep = sleep_for

    @property
    def connected(self) -> bool:
        """Never."""
        return False

    def pump(self, seconds: float) -> None:
        """Pass the time."""
        if seconds > 0:
            self._sleep(seconds)

    def report(self, data: bytes) -> None:
        """Keep silent."""

    def send_stats(self, data: bytes) -> Ticket | None:
        """Take nothing."""
        return None

    def send_result(self, data: bytes) -> None:
        """Keep silent."""

    def hinted(self) -> bool:
        """Nobody hints."""
        return False

    def close(self) -> None:
        """Nothing to hang up."""


class Sleeper(Protocol):
    """How time is passed."""

    def __call__(self, seconds: float, /) -> None:
        """Wait."""
        ...
