"""The controller's line to a broker: the one place that knows an MQTT client."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from edgeward.errors import FleetError, UsageError

from ..protocol.topics import every_device

log = logging.getLogger(__name__)
DEFAULT_PORT = 1883
KEEPALIVE_SECONDS = 30
CONNECT_TIMEOUT_SECONDS = 15.0
_QOS = {"reported": 1, "online": 1, "stats": 0, "result": 1}


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where a broker listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The address as devices are told it."""
        return f"mqtt://{self.host}:{self.port}"


def broker_address(url: str) -> BrokerAddress:
    """Read `mqtt://HOST[:PORT]`; UsageError for anything else."""
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORT
    except ValueError as error:
        raise UsageError(f"Not a broker's URL: {url[:200]}", why=str(error)) from None
    plain = not (parts.username or parts.password or parts.query or parts.path.strip("/"))
    if parts.scheme != "mqtt" or not parts.hostname or not plain:
        raise UsageError(f"Not a broker's URL: {url[:200]}", why="expected mqtt://HOST[:PORT]")
    return BrokerAddress(parts.hostname, port)


class Link(Protocol):
    """What the controller needs of a connection."""

    def start(
        self, on_message: Callable[[str, bytes], None], on_connect: Callable[[], None]
    ) -> None:
        """Connect and keep connected; messages arrive on another thread."""

    def publish(self, topic: str, payload: bytes, *, retain: bool = True) -> None:
        """Send a message with QoS 1."""

    def stop(self) -> None:
        """Disconnect."""


class MqttLink:
    """A link over any MQTT 3.1.1 broker; reconnects by itself."""

    def __init__(self, address: BrokerAddress, client_id: str = "edgeward-controller") -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.address = address
        self._connected = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=client_id)
        self._client.reconnect_delay_set(min_delay=1, max_delay=30)
        self._client.max_inflight_messages_set(100)

    def start(
        self, on_message: Callable[[str, bytes], None], on_connect: Callable[[], None]
    ) -> None:
        """Connect and keep connected; FleetError where no broker answers in time."""

        def connected(client: Any, _data: Any, _flags: Any, reason: Any, _props: Any) -> None:
            if reason.is_failure:
                log.warning("the broker refuses the controller: %s", reason)
                return
            client.subscribe([(every_device(channel), qos) for channel, qos in _QOS.items()])
            on_connect()
            self._connected.set()

        def received(_client: Any, _data: Any, message: Any) -> None:
            try:
                topic = message.topic
            except UnicodeDecodeError:
                topic = "?"
            on_message(topic, message.payload)

        self._client.on_connect = connected
        self._client.on_message = received
        self._client.connect_async(self.address.host, self.address.port, KEEPALIVE_SECONDS)
        self._client.loop_start()
        if not self._connected.wait(CONNECT_TIMEOUT_SECONDS):
            self.stop()
            raise FleetError(
                f"No MQTT broker answers at {self.address.url}",
                next="start it, or use --broker embedded",
            )

    def publish(self, topic: str, payload: bytes, *, retain: bool = True) -> None:
        """Send a message with QoS 1; kept and sent later while there is no connection."""
        self._client.publish(topic, payload, qos=1, retain=retain)

    def stop(self) -> None:
        """Disconnect and end the thread."""
        self._client.disconnect()
        self._client.loop_stop()
