"""Where measurements are kept, and how they are found, compared, drawn and written again."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from edgeward.errors import EdgewardError, UsageError
from edgeward.targets.bench.compare import compare_rows, unfair
from edgeward.targets.bench.plot import FIGURES, picture, round_step
from edgeward.targets.bench.present import render
from edgeward.targets.bench.store import VARIABLE, Store, find, store_path

SVG = "{http://www.w3.org/2000/svg}"


def record(name: str = "tiny", p50: float = 10.0, **changes: Any) -> dict[str, Any]:
    """A record with the figures that readers look at."""
    samples = [int(p50 * 1e6) + n * 1000 for n in range(-10, 11)]
    return {
        "test_time": "2026-01-02T03:04:05Z",
        "bundle": name,
        "bundle_digest": (name.encode().hex() * 64)[:64],
        "model_filename": f"/bundles/{name}-fp32",
        "precision": "fp32",
        "scenario": "SingleStream",
        "n_threads": 2,
        "batch": 1,
        "n_prompt": 6,
        "n_gen": 0,
        "latency_p50_ms": p50,
        "latency_p99_ms": p50 * 1.5,
        "peak_memory_bytes": 2**20,
        "samples_ns": samples,
        "warnings": [],
        **changes,
    }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data" / "bench.sqlite")


def test_records_come_back_in_order_with_their_numbers(store: Store) -> None:
    store.check()
    numbers = [store.append(record(name)) for name in ("one", "two")]
    found = store.records()
    assert [each["id"] for each in found] == numbers
    assert [each["bundle"] for each in found] == ["one", "two"]
    assert {**record("two"), "id": numbers[1]} == found[1]


def test_no_store_is_no_records_and_asking_makes_none(store: Store) -> None:
    assert store.records() == []
    assert not store.path.exists()


def test_a_store_that_is_none_is_an_error_and_left_as_it_is(store: Store) -> None:
    store.path.parent.mkdir()
    store.path.write_bytes(b"not a database, but somebody's data" * 100)
    before = store.path.read_bytes()
    for use in (store.check, store.records, lambda: store.append(record())):
        with pytest.raises(EdgewardError, match=r"(?s)cannot be used.*left as it is.*Next"):
            use()
    assert store.path.read_bytes() == before


def test_a_store_that_was_cut_keeps_its_bytes(store: Store) -> None:
    for number in range(50):
        store.append(record(str(number)))
    whole = store.path.read_bytes()
    store.path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EdgewardError):
        store.records()
    assert store.path.read_bytes() == whole[: len(whole) // 2]


def test_a_row_that_is_no_record_is_named(store: Store) -> None:
    store.append(record())
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE records SET record = '[1]'")
    with pytest.raises(EdgewardError, match="record 1"):
        store.records()


def test_its_place_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert store_path() == tmp_path / "edgeward" / "bench.sqlite"
    monkeypatch.setenv(VARIABLE, str(tmp_path / "other.db"))
    assert store_path() == tmp_path / "other.db"


def test_a_measurement_is_meant_by_number_place_or_bundle(store: Store) -> None:
    for name in ("one", "two", "one"):
        store.append(record(name))
    records = store.records()
    digest = records[1]["bundle_digest"]
    found = {
        named: find(records, named)["id"]
        for named in ("2", "last", "last~2", "one", "two", "two-fp32", digest[:8])
    }
    assert list(found.values()) == [2, 3, 1, 3, 2, 2, 2]
    for named in ("7", "last~3", "three", "last~x", "", digest[:4]):
        with pytest.raises(UsageError):
            find(records, named)
    with pytest.raises(UsageError, match="yet"):
        find([], "last")


def test_two_measurements_are_compared_with_an_interval() -> None:
    rows = {row["figure"]: row for row in compare_rows(record(), record(p50=20.0))}
    latency = rows["latency_p50_ms"]
    assert latency["ratio"] == 2.0
    assert 1.99 < latency["low"] <= 2.0 <= latency["high"] < 2.01  # type: ignore[operator]
    assert "low" not in rows["peak_memory_bytes"]
    assert "tpot_p50_ms" not in rows


def test_what_makes_them_no_fair_pair_is_said() -> None:
    noisy = record(n_threads=4, noisy=True, warnings=["steal"])
    assert list(unfair(record(), record("other"))) == []
    words = " ".join(unfair(record(), noisy))
    assert "n_threads: 2 and 4" in words
    assert "steal" in words


def test_a_comparison_is_not_compared_again() -> None:
    with pytest.raises(UsageError):
        compare_rows(record(), {"id": 4, "kind": "against"})


def bars(svg: str) -> list[tuple[float, float]]:
    """Where each bar begins and how long it is."""
    root = ElementTree.fromstring(svg)  # noqa: S314 - our own text
    found = [each.attrib for each in root.iter(f"{SVG}rect") if each.attrib.get("height") == "16"]
    return [(float(each["x"]), float(each["width"])) for each in found]


def test_bars_are_as_long_as_what_was_measured() -> None:
    records = [record("a", 10.0), record("b", 40.0), record("c", 20.0)]
    lengths = [width for _, width in bars(picture(records, "latency"))]
    assert lengths[1] == pytest.approx(4 * lengths[0], abs=0.5)
    assert lengths[2] == pytest.approx(2 * lengths[0], abs=0.5)
    assert len({left for left, _ in bars(picture(records, "latency"))}) == 1


def test_the_picture_is_well_formed_whatever_a_bundle_is_called() -> None:
    svg = picture([record('<&"\x1b]0;x\x07' + "ä" * 300, predicted_latency_ms=8.0)], "latency")
    texts = [each.text or "" for each in ElementTree.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314
    assert any("<&" in text for text in texts)
    assert "predicted" in texts
    assert "\x1b" not in svg


@pytest.mark.parametrize(
    ("least", "step"), [(1.0, 1), (1.1, 2), (0.03, 0.05), (547.0, 1000), (3.0, 5), (200.0, 200)]
)
def test_the_axis_has_round_numbers(least: float, step: float) -> None:
    assert round_step(least) == pytest.approx(step)


def test_a_figure_that_nobody_has_is_refused() -> None:
    assert set(FIGURES) >= {"latency", "ttft", "tpot", "memory"}
    with pytest.raises(UsageError, match="tpot"):
        picture([record()], "tpot")


def test_every_form_holds_the_same_rows() -> None:
    records = [record("a|b", 10.0), record("c", 20.0, tests=[{"test": "pp6"}])]
    assert json.loads(render(records, "json")) == records
    assert [json.loads(line) for line in render(records, "jsonl").splitlines()] == records
    told = list(csv.DictReader(io.StringIO(render(records, "csv"))))
    assert [float(row["latency_p50_ms"]) for row in told] == [10.0, 20.0]
    assert "tests" not in told[0]
    lines = render(records, "md").splitlines()
    assert len(lines) == 4
    assert "a\\|b fp32" in lines[2]
    table = render(records, "table")
    assert len(table.splitlines()) == 3
    assert "TTFT" not in table
