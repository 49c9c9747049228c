"""The line over MQTT 3.1.1: one client, driven by the agent's own loop, reconnecting with jitter.

Birth and will are retained and carry boot and connection numbers, so that a broker which sends
an old connection's will late cannot make a newer session look dead.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from ..protocol.documents import Online
from ..protocol.topics import topic
from ..protocol.wire import encode
from .backoff import full_jitter
from .clock import Clock
from .link import Ticket

KEEPALIVE_SECONDS = 30
CONNECT_SECONDS = 4.0
ANSWER_SECONDS = 10.0
BACKOFF_BASE, BACKOFF_CAP = 1.0, 60.0
GOODBYE_SECONDS = 1.0
STEADY_SECONDS = 60.0
PORTS = {"mqtt": 1883, "mqtts": 8883}


class MqttLink:
    """A Link over paho; `boot` is the number of this start of the agent."""

    def __init__(self, url: str, device: str, boot: int, clock: Clock) -> None:
        self._url = urlsplit(url)
        self._device = device
        self._boot = boot
        self._clock = clock
        self._client: mqtt.Client | None = None
        self._connection = 0
        self._connected = False
        self._hinted = False
        self._reported: bytes | None = None
        self._failures = 0
        self._retry_at = 0.0
        self._connecting_since = 0.0
        self._connected_at = 0.0

    @property
    def connected(self) -> bool:
        """Whether the broker has said yes and not gone since."""
        return self._connected

    def pump(self, seconds: float) -> None:
        """Drive the connection; while there is none, pass the time."""
        if self._client is None and self._clock.monotonic() >= self._retry_at:
            self._connect()
        if self._client is None:
            if seconds > 0:
                self._clock.sleep(seconds)
            return
        try:
            status = self._client.loop(seconds)
        except (OSError, ValueError):
            status = mqtt.MQTT_ERR_CONN_LOST
        now = self._clock.monotonic()
        silent = not self._connected and now - self._connecting_since > ANSWER_SECONDS
        if status != mqtt.MQTT_ERR_SUCCESS or silent:
            self._lost()

    def report(self, data: bytes) -> None:
        """Publish retained with QoS 1; remembered for every later connection."""
        self._reported = data
        if self._connected:
            self._publish("reported", data, qos=1, retain=True)

    def send_stats(self, data: bytes) -> Ticket | None:
        """Publish with QoS 0."""
        return self._publish("stats", data, qos=0, retain=False) if self._connected else None

    def send_result(self, data: bytes) -> None:
        """Publish with QoS 1."""
        if self._connected:
            self._publish("result", data, qos=1, retain=False)

    def hinted(self) -> bool:
        """Say once whether a desired document or a job came."""
        hinted, self._hinted = self._hinted, False
        return hinted

    def close(self) -> None:
        """Publish that the device goes, give the message a second, disconnect."""
        client = self._client
        if client is None:
            return
        if self._connected:
            ticket = self._publish("online", self._online(False), qos=1, retain=True)
            end = self._clock.monotonic() + GOODBYE_SECONDS
            while ticket and not ticket.is_published() and self._clock.monotonic() < end:
                if client.loop(0.05) != mqtt.MQTT_ERR_SUCCESS:
                    break
            client.disconnect()
        self._client, self._connected = None, False

    def _connect(self) -> None:
        self._connection += 1
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=self._device, protocol=mqtt.MQTTv311
        )
        client.connect_timeout = CONNECT_SECONDS
        if self._url.username:
            client.username_pw_set(unquote(self._url.username), unquote(self._url.password or ""))
        if self._url.scheme == "mqtts":
            client.tls_set()
        client.will_set(topic(self._device, "online"), self._online(False), qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        port = self._url.port or PORTS[self._url.scheme]
        try:
            client.connect(str(self._url.hostname), port, KEEPALIVE_SECONDS)
        except (OSError, ValueError):
            self._lost()
            return
        self._client, self._connecting_since = client, self._clock.monotonic()

    def _lost(self) -> None:
        now = self._clock.monotonic()
        steady = self._connected and now - self._connected_at > STEADY_SECONDS
        self._client, self._connected = None, False
        self._failures = 1 if steady else self._failures + 1
        pause = full_jitter(self._failures, BACKOFF_BASE, BACKOFF_CAP)
        self._retry_at = now + pause

    def _on_connect(
        self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        if reason.is_failure:
            return
        self._connected = self._hinted = True
        self._connected_at = self._clock.monotonic()
        client.subscribe([(topic(self._device, channel), 1) for channel in ("desired", "cmd")])
        self._publish("online", self._online(True), qos=1, retain=True)
        if self._reported is not None:
            self._publish("reported", self._reported, qos=1, retain=True)

    def _on_message(self, _client: mqtt.Client, _data: Any, _message: Any) -> None:
        self._hinted = True

    def _publish(self, channel: str, data: bytes, *, qos: int, retain: bool) -> Ticket | None:
        client = self._client
        if client is None:
            return None
        info = client.publish(topic(self._device, channel), data, qos=qos, retain=retain)
        return info if info.rc == mqtt.MQTT_ERR_SUCCESS else None

    def _online(self, online: bool) -> bytes:
        return encode(
            Online(device=self._device, boot=self._boot, connection=self._connection, online=online)
        )
