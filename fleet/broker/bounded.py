"""amqtt's broker, bounded: what is over the limit or makes no sense is let go at once."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from amqtt.broker import Broker

from .embedded import ALTERNATIVE

log = logging.getLogger(__name__)
HANDSHAKE_TIMEOUT_SECONDS = 20.0
LOG_EVERY_SECONDS = 30.0


class BoundedBroker(Broker):  # type: ignore[misc]  # amqtt has no types
    """amqtt makes the 501st client wait without a word; this one refuses it and says so."""

    def __init__(self, config: dict[str, Any], max_connections: int) -> None:
        super().__init__(config)
        self._max_connections = max_connections
        self._connections = 0
        self._refused = 0
        self._next_log = 0.0

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        """Serve one client, counted; whatever it sends, the others are not touched."""
        if self._connections >= self._max_connections:
            self._refuse()
            writer.close()
            return
        self._connections += 1
        try:
            await super().stream_connected(reader, writer, listener_name)
        except Exception:
            log.debug("a client broke off", exc_info=True)
        finally:
            self._connections -= 1
            writer.close()

    async def _initialize_client_session(self, *args: Any) -> Any:
        """A client that connects and says nothing holds no place for long."""
        return await asyncio.wait_for(
            super()._initialize_client_session(*args), HANDSHAKE_TIMEOUT_SECONDS
        )

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Any
    ) -> None:
        """amqtt offers a returning client everybody's subscriptions: only its own are served."""
        subscribers = self.subscriptions.get(subscription[0], [])
        if any(own.client_id == session.client_id for own, _ in subscribers):
            await super()._publish_retained_messages_for_subscription(subscription, session)

    def _refuse(self) -> None:
        self._refused += 1
        if time.monotonic() < self._next_log:
            return
        self._next_log = time.monotonic() + LOG_EVERY_SECONDS
        refused, self._refused = self._refused, 0
        log.error("refused %d connections: %s", refused, ALTERNATIVE)
