"""The brokers by themselves: bounds, restarts, hostile clients."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from control_support import until
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from edgeward.errors import FleetError, MissingError, UsageError
from edgeward.fleet.broker import mosquitto
from edgeward.fleet.broker.embedded import MAX_DEVICES, EmbeddedBroker
from edgeward.fleet.broker.mosquitto import MosquittoBroker

CONNECT = bytes.fromhex("101000044d5154540402003c000463")  # MQTT, level 4, clean session


def connect_packet(name: str) -> bytes:
    body = b"\x00\x04MQTT\x04\x02\x00\x3c" + len(name).to_bytes(2, "big") + name.encode()
    return bytes([0x10, len(body)]) + body


def accepted(broker: EmbeddedBroker, name: str) -> socket.socket | None:
    line = socket.create_connection((broker.host, broker.port), timeout=20)
    try:
        line.sendall(connect_packet(name))
        if line.recv(4) == b"\x20\x02\x00\x00":
            return line
    except ConnectionError:
        pass
    line.close()
    return None


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    made = EmbeddedBroker()
    made.start()
    yield made
    made.stop()


def talk(broker: EmbeddedBroker, topic: str) -> bytes:
    """Publish to a topic and return what its subscriber heard."""
    heard: list[bytes] = []
    ready, done = threading.Event(), threading.Event()
    client = Client(CallbackAPIVersion.VERSION2)

    def message(_client: Client, _data: object, found: MQTTMessage) -> None:
        heard.append(found.payload)
        done.set()

    client.on_message = message
    client.on_subscribe = lambda *_: ready.set()
    client.connect(broker.host, broker.port)
    client.loop_start()
    client.subscribe(topic, qos=1)
    assert ready.wait(10)
    client.publish(topic, b"hello", qos=1)
    assert done.wait(10)
    client.disconnect()
    client.loop_stop()
    return heard[0]


def test_one_client_too_many_is_refused_and_the_others_stay(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = EmbeddedBroker(max_connections=3)
    broker.start()
    try:
        lines = [accepted(broker, f"d{n}") for n in range(3)]
        assert all(lines)
        with caplog.at_level(logging.ERROR):
            assert accepted(broker, "one-too-many") is None
        assert "mosquitto" in caplog.text
        assert "EMQX" in caplog.text
        lines[0].close()  # type: ignore[union-attr]
        found = until(lambda: accepted(broker, "now-there-is-room"), "a place is free again")
        for line in (found, *lines):
            line.close()
    finally:
        broker.stop()


@pytest.mark.slow
def test_500_devices_are_served_and_the_501st_is_refused(broker: EmbeddedBroker) -> None:
    lines = [accepted(broker, f"d{n}") for n in range(MAX_DEVICES + 1)]
    assert all(lines)  # 500 devices and the controller
    assert accepted(broker, "the-501st") is None
    for line in lines:
        line.close()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00" * 100,
        b"\x10\xff\xff\xff\x7f",
        b"\x10\x00",
        b"\x10\x04\xff\xff\xff\xff",
        CONNECT[:6],
        connect_packet("x") + b"\x30\x02\xff\xff",
        connect_packet("x") + b"\x82\x01\x00",
        connect_packet("x") * 2,
        b"\x10\x0c\x00\x04MQTT\x05\x02\x00\x3c\x00\x00",
    ],
)
def test_clients_that_talk_nonsense_hurt_nobody(broker: EmbeddedBroker, data: bytes) -> None:
    for _ in range(5):
        line = socket.create_connection((broker.host, broker.port))
        line.sendall(data)
        line.close()
    assert talk(broker, "a/b") == b"hello"


def test_it_starts_again_on_the_same_port(broker: EmbeddedBroker) -> None:
    port = broker.port
    assert talk(broker, "a") == b"hello"
    broker.stop()
    with pytest.raises(OSError):
        socket.create_connection((broker.host, port), timeout=1)
    broker.start()
    assert broker.port == port
    assert talk(broker, "a") == b"hello"


def test_a_port_that_is_taken_has_words(broker: EmbeddedBroker, tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="cannot listen"):
        EmbeddedBroker(port=broker.port).start()


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "example.org"])  # noqa: S104 - refused
def test_anonymous_brokers_stay_on_loopback(host: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not listen"):
        EmbeddedBroker(host)
    with pytest.raises(FleetError, match="listen"):
        MosquittoBroker(tmp_path, host)


def test_a_returning_client_hears_nothing_that_it_did_not_ask_for(broker: EmbeddedBroker) -> None:
    owner = Client(CallbackAPIVersion.VERSION2, client_id="owner")
    owner.connect(broker.host, broker.port)
    owner.loop_start()
    owner.subscribe("secret/+", qos=1)
    owner.publish("secret/x", b"for the owner", qos=1, retain=True).wait_for_publish(10)
    line = accepted(broker, "stranger")
    assert line is not None
    line.sendall(b"\xc0\x00")
    assert line.recv(100) == b"\xd0\x00"  # the answer to the ping, and nothing before it
    line.close()
    owner.disconnect()
    owner.loop_stop()


def test_without_mosquitto_there_is_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(mosquitto, "_PLACES", ())
    with pytest.raises(MissingError) as caught:
        MosquittoBroker(tmp_path).start()
    assert "apt-get install" in caught.value.next
    assert caught.value.exit_code == 5
