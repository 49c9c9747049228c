"""Endpoint statistics: the sketch's promise, nothing lost, nothing that grows without bound."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.errors import EdgewardError, UsageError
from edgeward.runtimes.statistics import spool as spool_module
from edgeward.runtimes.statistics.flusher import Flusher
from edgeward.runtimes.statistics.memory import peak_bytes
from edgeward.runtimes.statistics.recorder import Observation, Recorder
from edgeward.runtimes.statistics.sketch import MAX_BINS, RELATIVE_ACCURACY, Sketch
from edgeward.runtimes.statistics.spool import Spool

LATENCIES = st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=200)


def sketch_of(values: list[float]) -> Sketch:
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    return sketch


@given(LATENCIES, st.floats(0, 1))
def test_a_quantile_is_within_one_percent(values: list[float], q: float) -> None:
    found = sketch_of(values).quantile(q)
    wanted = float(np.quantile(values, q, method="lower"))
    assert found == pytest.approx(wanted, rel=RELATIVE_ACCURACY * 1.0001)


@given(LATENCIES, LATENCIES)
def test_merging_is_adding_all(first: list[float], second: list[float]) -> None:
    merged = sketch_of(first)
    merged.merge(sketch_of(second))
    both = sketch_of(first + second)
    assert (merged.bins, merged.zeros, merged.count) == (both.bins, both.zeros, both.count)
    assert merged.sum == pytest.approx(both.sum)
    assert (merged.minimum, merged.maximum) == (both.minimum, both.maximum)


@given(LATENCIES)
def test_a_sketch_survives_its_json(values: list[float]) -> None:
    sketch = sketch_of([*values, 0.0])
    again = Sketch.from_json(json.loads(json.dumps(sketch.to_json())))
    assert again.to_json() == sketch.to_json()


def test_the_bins_are_bounded() -> None:
    sketch = sketch_of([1e-9 * 1.0215**n for n in range(2900)])
    assert len(sketch.bins) <= MAX_BINS
    assert sketch.count == 2900
    assert sketch.quantile(1.0) == pytest.approx(1e-9 * 1.0215**2899, rel=0.011)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), 1e19])
def test_what_is_no_duration_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="sketch"):
        Sketch().add(value)


HOSTILE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
)


@given(HOSTILE, st.sampled_from(["accuracy", "bins", "zeros", "sum", "min", "max"]))
def test_any_json_is_a_sketch_or_refused(value: Any, field: str) -> None:
    good = sketch_of([1.0, 2.0]).to_json()
    for document in (value, {**good, field: value}):
        with suppress(ValueError):
            assert Sketch.from_json(document).count >= 0


def test_nothing_is_lost_between_threads() -> None:
    recorder = Recorder("d" * 64, 1.0)

    def work() -> None:
        for _ in range(5000):
            recorder.record(Observation(2.0, items=2, tokens_in=3))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    taken = [recorder.take_delta() for _ in range(20)]
    for thread in threads:
        thread.join()
    taken.append(recorder.take_delta())
    assert sum(delta["requests"] for delta in taken if delta) == 20_000
    shot = recorder.snapshot()
    assert (shot.requests, shot.items, shot.tokens_in) == (20_000, 40_000, 60_000)
    assert shot.latency.p99 == pytest.approx(2.0, rel=0.01)


def test_errors_count_by_class_and_have_no_latency() -> None:
    recorder = Recorder("d" * 64, 1.0)
    recorder.record(Observation(0.0, error="UsageError"))
    recorder.record(Observation(5.0, queue_ms=1.0))
    shot = recorder.snapshot()
    assert shot.errors == {"UsageError": 1}
    assert (shot.requests, shot.latency.count, shot.queue.count) == (2, 1, 1)
    assert shot.memory_bytes > 0


def test_a_delta_has_what_came_since_the_last() -> None:
    recorder = Recorder("d" * 64, 123.0)
    first = recorder.take_delta()
    assert first is not None
    assert Sketch.from_json(first["sketches"]["load_ms"]).quantile(0.5) == pytest.approx(123, 0.01)
    assert recorder.take_delta() is None
    recorder.record(Observation(1.0))
    second = recorder.take_delta()
    assert second is not None
    assert second["requests"] == 1
    assert "load_ms" not in second["sketches"]


def test_a_spool_is_a_bounded_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "MAX_ROWS", 5)
    spool = Spool(tmp_path / "spool")
    for number in range(12):
        spool.append({"n": number})
    found = spool.peek()
    assert [delta["n"] for _, delta in found] == [7, 8, 9, 10, 11]
    spool.discard(found[2][0])
    assert [delta["n"] for _, delta in Spool(tmp_path / "spool").peek()] == [10, 11]


def test_rows_that_hold_no_delta_do_not_stand_in_the_way(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    with sqlite3.connect(spool.path) as connection:
        rows = [("{",), ("[1]",), (b"\xff",), (None,)]
        connection.executemany("INSERT INTO deltas (delta) VALUES (?)", rows)
    spool.append({"n": 1})
    assert [delta for _, delta in spool.peek()] == [{"n": 1}]


def test_a_spool_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "spool").write_bytes(b"not a database" * 100)
    with pytest.raises(EdgewardError, match="cannot be used"):
        Spool(tmp_path / "spool")
    with pytest.raises(EdgewardError, match="cannot be used"):
        Spool(tmp_path / "no" / "folder")


def test_a_kill_loses_nothing_that_was_appended(tmp_path: Path) -> None:
    code = (
        "import os, sys; from edgeward.runtimes.statistics.spool import Spool\n"
        "spool = Spool(sys.argv[1])\n"
        "for n in range(20): spool.append({'n': n})\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")], check=False)
    assert done.returncode == -9
    assert [delta["n"] for _, delta in Spool(tmp_path / "s").peek()] == list(range(20))


def test_closing_flushes_what_is_left(tmp_path: Path) -> None:
    recorder, spool = Recorder("d" * 64, 1.0), Spool(tmp_path / "s")
    flusher = Flusher(recorder, spool, 3600)
    recorder.record(Observation(1.0))
    flusher.close()
    assert sum(delta["requests"] for _, delta in spool.peek()) == 1


def test_a_spool_that_fails_for_now_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, spool = Recorder("d" * 64, 1.0), Spool(tmp_path / "s")
    flusher = Flusher(recorder, spool, 3600)

    def full(delta: dict[str, Any]) -> None:
        raise EdgewardError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(spool, "append", full)
        recorder.record(Observation(1.0))
        flusher._flush()
    recorder.record(Observation(1.0))
    flusher.close()
    assert sum(delta["requests"] for _, delta in spool.peek()) == 2


@pytest.mark.parametrize("seconds", [0, -1, 1e9, float("nan")])
def test_an_odd_interval_is_refused(tmp_path: Path, seconds: float) -> None:
    with pytest.raises(UsageError):
        Flusher(Recorder("d" * 64, 1.0), Spool(tmp_path / "s"), seconds)


def test_a_parents_memory_is_not_this_programs(tmp_path: Path) -> None:
    """A process begins as its parent's copy, whose peak Linux keeps for it."""
    large = np.ones(64 << 20, np.uint8)
    told = "from edgeward.runtimes.statistics.memory import peak_bytes; print(peak_bytes())"
    peak = subprocess.run([sys.executable, "-c", told], capture_output=True, check=True).stdout
    assert int(peak) < large.nbytes < peak_bytes()
