"""Carries the spool's intervals to whoever watches and, while there is a line, to the fleet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pydantic import ValidationError

from edgeward.errors import EdgewardError

from ..protocol.documents import Stats
from ..protocol.wire import encode
from .link import Link, Ticket

BATCH, WHOLE = 100, 10_000
IN_FLIGHT = 20


class Spooled(Protocol):
    """The runtime's spool, as the agent uses it."""

    def peek(self, limit: int = ...) -> list[tuple[int, dict[str, Any]]]:
        """Return the oldest deltas with their numbers."""
        ...

    def discard(self, up_to_id: int) -> None:
        """Forget deltas up to this number."""
        ...

    def claim(self, number: int) -> int:
        """Return the number that the spool was first claimed with."""
        ...


class StatsPump:
    """A delta leaves the spool only once its message left the machine.

    The delta's number in the spool is the message's sequence and its boot is the one that first
    used the spool, so that a delta sent twice counts once, also when a crash lies between.
    """

    def __init__(self, spool: Spooled, device: str, boot: int) -> None:
        self.watchers: list[Callable[[Mapping[str, Any]], None]] = []
        self._spool = spool
        self._device = device
        self._boot = boot
        self._claimed = False
        self._seen = 0
        self._flying: deque[tuple[int, Ticket | None]] = deque()

    def pump(self, link: Link) -> None:
        """Show new deltas to the watchers, send what may be sent, forget what was."""
        try:
            self._claim()
            self._forget(link)
            for number, delta in self._waiting():
                self._show(number, delta)
                self._send(link, number, delta)
        except EdgewardError:
            self._flying.clear()

    def _claim(self) -> None:
        if not self._claimed:
            self._boot = self._spool.claim(self._boot)
            self._claimed = True

    def _waiting(self) -> list[tuple[int, dict[str, Any]]]:
        waiting = self._spool.peek(BATCH)
        is_backlog = len(waiting) == BATCH and waiting[-1][0] <= self._seen
        return self._spool.peek(WHOLE) if self.watchers and is_backlog else waiting

    def _show(self, number: int, delta: dict[str, Any]) -> None:
        if number <= self._seen:
            return
        self._seen = number
        for watcher in self.watchers:
            watcher(delta)

    def _send(self, link: Link, number: int, delta: dict[str, Any]) -> None:
        last = self._flying[-1][0] if self._flying else 0
        if not link.connected or number <= last or len(self._flying) >= IN_FLIGHT:
            return
        message = self._message(number, delta)
        ticket = link.send_stats(message) if message is not None else None
        if message is None or ticket is not None:
            self._flying.append((number, ticket))

    def _forget(self, link: Link) -> None:
        done = 0
        while self._flying and _left(self._flying[0][1]):
            done = self._flying.popleft()[0]
        if done:
            self._spool.discard(done)
        if not link.connected:
            self._flying.clear()

    def _message(self, number: int, delta: dict[str, Any]) -> bytes | None:
        try:
            return encode(
                Stats(
                    device=self._device,
                    boot=self._boot,
                    sequence=number,
                    bundle=delta["bundle"],
                    started_at=float(delta["started_at"]),
                    ended_at=float(delta["ended_at"]),
                    delta=delta,
                )
            )
        except (EdgewardError, ValidationError, KeyError, TypeError, ValueError):
            return None


def _left(ticket: Ticket | None) -> bool:
    return ticket is None or ticket.is_published()
