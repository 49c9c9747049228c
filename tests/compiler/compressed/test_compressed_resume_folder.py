"""A stage's finished parts outlive its interruption, and go with its end."""

from __future__ import annotations

import os
import time
from pathlib import Path

from edgeward.compiler.stage_cache import StageCache

KEY = "k" * 64


def test_it_stays_when_the_stage_is_given_up_and_goes_when_it_is_done(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)
    draft = cache.begin(KEY)
    (cache.unfinished(KEY) / "0001").write_text("a block")
    cache.abandon(draft)
    again = cache.begin(KEY)
    assert (cache.unfinished(KEY) / "0001").read_text() == "a block"
    (again.out / "whole").write_text("all")
    record = {"data": {}, "metrics": {}, "seconds": 1, "peak_memory_bytes": 1, "versions": {}}
    cache.commit(KEY, again, record)
    assert not (cache.root / "unfinished" / KEY).exists()
    assert cache.size() > 0
    assert [entry.name for entry in cache.root.iterdir() if entry.name == KEY] == [KEY]


def test_what_nobody_came_back_for_goes_after_weeks(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)
    fresh, old = cache.unfinished("f" * 64), cache.unfinished("o" * 64)
    month = time.time() - 30 * 86400
    os.utime(old, (month, month))
    cache.sweep()
    assert fresh.exists() and not old.exists()
    assert cache.size() == 0
