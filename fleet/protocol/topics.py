"""The topic tree, `edgeward/v1/d/{id}/{channel}`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgeward.errors import ProtocolError

PREFIX = "edgeward/v1/d"
CHANNELS = ("desired", "reported", "online", "stats", "cmd", "result")
_DEVICE_ID = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Topic:
    """One channel of one device."""

    device: str
    channel: str

    def __str__(self) -> str:
        """Return the topic as MQTT writes it."""
        return f"{PREFIX}/{self.device}/{self.channel}"


def topic(device: str, channel: str) -> str:
    """Return the topic of a device's channel; ProtocolError where either is not one."""
    if channel not in CHANNELS:
        raise ProtocolError(f"Unknown channel {channel!r}", why=f"one of {', '.join(CHANNELS)}")
    return str(Topic(check_device_id(device), channel))


def parse_topic(text: str) -> Topic:
    """Return the device and channel of a topic that a broker delivered."""
    head, _, channel = text.rpartition("/")
    prefix, _, device = head.rpartition("/")
    if prefix != PREFIX or channel not in CHANNELS:
        raise ProtocolError(f"Not a topic of ours: {text[:200]!r}")
    return Topic(check_device_id(device), channel)


def every_device(channel: str) -> str:
    """Return the filter that matches one channel of all devices."""
    if channel not in CHANNELS:
        raise ProtocolError(f"Unknown channel {channel!r}", why=f"one of {', '.join(CHANNELS)}")
    return f"{PREFIX}/+/{channel}"


def check_device_id(device: str) -> str:
    """Return the id, or raise ProtocolError where it could not be a certificate's common name."""
    if not _DEVICE_ID.fullmatch(device):
        raise ProtocolError(
            f"Not a device id: {device[:80]!r}",
            why="1 to 64 of a-z 0-9 . _ - with a letter or digit at both ends",
        )
    return device
