"""Messages from devices, read with suspicion: any topic, any bytes."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from edgeward.errors import EdgewardError, ProtocolError

from ..protocol.documents import Online, Reported, Stats
from ..protocol.jobs import JobReport
from ..protocol.topics import parse_topic
from ..protocol.wire import decode
from .stats import Totals, read_delta

log = logging.getLogger(__name__)
LOG_EVERY_SECONDS = 60.0
MAX_KINDS = 50
_DOCUMENTS: dict[str, type[Reported] | type[Online] | type[JobReport]] = {
    "reported": Reported,
    "online": Online,
    "result": JobReport,
}


@dataclass(frozen=True, slots=True)
class Interval:
    """Statistics of one interval, checked."""

    stats: Stats
    totals: Totals


Message = Reported | Online | Interval | JobReport


def read_message(topic: str, payload: bytes) -> Message | None:
    """Return what a device said, None for a retained message that was cleared.

    Raises ProtocolError for anything that does not follow the protocol, another device's
    document under this topic included.
    """
    at = parse_topic(topic)
    if not payload:
        return None
    if at.channel == "stats":
        stats = decode(payload, Stats)
        _refuse_other(stats.device, at.device)
        return Interval(stats, read_delta(stats.delta))
    if at.channel not in _DOCUMENTS:
        raise ProtocolError(f"Nobody but the controller writes to {at.channel}")
    document = decode(payload, _DOCUMENTS[at.channel])
    _refuse_other(document.device, at.device)
    return document


def _refuse_other(said: str, topic: str) -> None:
    if said != topic:
        raise ProtocolError("A device speaks for another", why=f"{said} under the topic of {topic}")


class Refusals:
    """Counts refused messages and logs them now and then, so that a flood cannot fill a disk."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since_log: Counter[str] = Counter()
        self._next_log = 0.0
        self.total = 0

    def add(self, topic: str, error: EdgewardError) -> None:
        """Count one."""
        with self._lock:
            self.total += 1
            what = error.what[:120]
            is_known = what in self._since_log or len(self._since_log) < MAX_KINDS
            self._since_log[what if is_known else "others"] += 1
            if self._clock() < self._next_log:
                return
            self._next_log = self._clock() + LOG_EVERY_SECONDS
            counted, self._since_log = self._since_log, Counter()
        words = "; ".join(f"{count} x {what!a}" for what, count in counted.most_common(3))
        log.warning("refused messages, the last one on %a: %s", topic[:120], words)
