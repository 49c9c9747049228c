"""Statistics that a crash makes an agent send again carry the same name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agent_sim import NOW, FakeClock, FakeLink

from edgeward.fleet.agent.stats_pump import StatsPump
from edgeward.fleet.protocol.documents import Stats
from edgeward.fleet.protocol.wire import decode
from edgeward.runtimes.statistics.spool import Spool


class Waiting:
    """A message that did not leave the machine yet, as far as anybody knows."""

    def is_published(self) -> bool:
        return False


class SlowLink(FakeLink):
    """Sends, but the machine dies before it is told."""

    def send_stats(self, data: bytes) -> Any:
        self.stats.append(data)
        return Waiting()


def delta(requests: int) -> dict[str, Any]:
    return {"bundle": "a" * 64, "started_at": NOW, "ended_at": NOW, "requests": requests}


def names(link: FakeLink) -> list[tuple[int, int]]:
    sent = [decode(data, Stats) for data in link.stats]
    return [(stats.boot, stats.sequence) for stats in sent]


def test_a_delta_sent_again_after_a_crash_has_its_name(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.append(delta(1))
    spool.append(delta(2))
    before = SlowLink(FakeClock())
    StatsPump(spool, "kiosk-1", boot=3).pump(before)
    after = FakeLink(FakeClock())
    pump = StatsPump(Spool(tmp_path / "spool"), "kiosk-1", boot=4)
    pump.pump(after)
    assert names(before) == names(after) == [(3, 1), (3, 2)]
    pump.pump(after)
    assert spool.peek() == []
    spool.append(delta(3))
    pump.pump(after)
    assert names(after)[-1] == (3, 3)


def test_a_new_spool_is_named_by_the_boot_that_made_it(tmp_path: Path) -> None:
    for boot in (1, 5):
        spool = Spool(tmp_path / f"spool-{boot}")
        spool.append(delta(1))
        link = FakeLink(FakeClock())
        StatsPump(spool, "kiosk-1", boot=boot).pump(link)
        assert names(link) == [(boot, 1)]


@pytest.mark.parametrize("number", [1, 7])
def test_the_first_claim_stays(tmp_path: Path, number: int) -> None:
    assert Spool(tmp_path / "spool").claim(number) == number
    assert Spool(tmp_path / "spool").claim(number + 1) == number
