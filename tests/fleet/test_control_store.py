"""The registry: later never gives way to earlier, doubles count once, it stays bounded."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from control_support import make_release, sha
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeward.errors import FleetError, ProtocolError, UsageError
from edgeward.fleet.control import sqlite as registry
from edgeward.fleet.control.problems import ConflictError
from edgeward.fleet.control.records import DesiredRecord, Event, ReleaseRecord
from edgeward.fleet.control.sqlite import SqliteStore
from edgeward.fleet.control.stats import MAX_ERROR_CLASSES, Totals, read_delta
from edgeward.fleet.control.store import open_store
from edgeward.fleet.protocol.documents import Desired, Online, Reported, State, Stats
from edgeward.runtimes.statistics.sketch import Sketch

ordinals = st.tuples(st.integers(0, 5), st.integers(0, 5))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "controller.sqlite")
    yield opened
    opened.close()


def reported(boot: int, sequence: int) -> Reported:
    return Reported(
        device="d",
        boot=boot,
        sequence=sequence,
        at=0.0,
        agent=f"{boot}.{sequence}",
        generation=0,
        state=State.IDLE,
    )


def stats(boot: int, sequence: int, bundle: str = "b") -> Stats:
    return Stats(
        device="d",
        boot=boot,
        sequence=sequence,
        bundle=sha(bundle),
        started_at=0.0,
        ended_at=1.0,
        delta={},
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.lists(ordinals, min_size=1, max_size=12))
def test_only_a_later_report_replaces(store: SqliteStore, order: list[tuple[int, int]]) -> None:
    store.forget_device("d")
    newest = (-1, -1)
    for boot, sequence in order:
        assert store.save_reported(reported(boot, sequence), 1.0) == ((boot, sequence) > newest)
        newest = max(newest, (boot, sequence))
    found = store.device("d")
    assert found is not None
    assert found.reported == reported(*newest)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.lists(ordinals, min_size=1, max_size=12))
def test_an_interval_counts_once(store: SqliteStore, order: list[tuple[int, int]]) -> None:
    store.forget_device("d")
    newest, taken = (-1, -1), 0
    for boot, sequence in order:
        store.save_stats(stats(boot, sequence), Totals(requests=1), 1.0)
        taken += (boot, sequence) > newest
        newest = max(newest, (boot, sequence))
    ((_, _, totals),) = store.stats()
    assert totals.requests == taken


@pytest.mark.parametrize(
    ("said", "online"),
    [
        ([(1, 1, True)], True),
        ([(1, 1, True), (1, 1, False)], False),
        ([(1, 1, True), (1, 2, True), (1, 1, False)], True),
        ([(1, 9, True), (2, 1, True), (1, 9, False)], True),
        ([(1, 1, True), (1, 1, False), (1, 1, True)], False),
        ([(1, 2, False), (1, 1, True)], False),
    ],
)
def test_a_late_will_cannot_end_a_newer_session(
    store: SqliteStore, said: list[tuple[int, int, bool]], online: bool
) -> None:
    for boot, connection, is_online in said:
        store.save_online(
            Online(device="d", boot=boot, connection=connection, online=is_online), 1.0
        )
    found = store.device("d")
    assert found is not None
    assert found.online is online


def test_statistics_stay_bounded(store: SqliteStore) -> None:
    step = registry.BUCKET_SECONDS
    for number in range(registry.MAX_BUCKETS + 20):
        store.save_stats(stats(1, number), Totals(requests=1), float(number * step))
    assert store.stats()[0][2].requests == registry.MAX_BUCKETS
    for number in range(registry.MAX_BUNDLES_PER_DEVICE + 20):
        store.save_stats(stats(2, number, f"b{number}"), Totals(requests=1), 1e6)
    assert len(store.stats()) == registry.MAX_BUNDLES_PER_DEVICE


def test_the_timeline_stays_bounded(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "MAX_EVENTS", 10)
    for number in range(30):
        store.add_event(Event(float(number), "k", str(number)))
    assert [event.text for event in store.events()] == [str(n) for n in range(20, 30)]


def test_sketches_merge_over_buckets(store: SqliteStore) -> None:
    for number in range(100):
        sketch = Sketch()
        sketch.add(float(number + 1))
        totals = Totals(requests=1, sketches={"latency_ms": sketch}, memory_bytes=number)
        store.save_stats(stats(1, number), totals, float(number * 60))
    ((_, _, merged),) = store.stats()
    row = merged.row()
    assert row["latency_p50_ms"] == pytest.approx(50, rel=0.03)
    assert row["latency_p99_ms"] == pytest.approx(99, rel=0.03)
    assert row["memory_bytes"] == 99


deltas = st.fixed_dictionaries(
    {
        "requests": st.integers(0, 2**53),
        "errors": st.dictionaries(
            st.text(min_size=1, max_size=5), st.integers(0, 2**53), max_size=MAX_ERROR_CLASSES
        ),
        "sketches": st.fixed_dictionaries(
            {
                "latency_ms": st.fixed_dictionaries(
                    {
                        "accuracy": st.just(0.01),
                        "bins": st.lists(
                            st.tuples(st.integers(-2000, 2000), st.integers(1, 2**52)).map(list),
                            max_size=3,
                            unique_by=lambda pair: pair[0],
                        ),
                        "zeros": st.integers(0, 2**52),
                        "sum": st.floats(0, 1e36),
                        "min": st.floats(0, 1e18),
                        "max": st.floats(0, 1e18),
                    }
                )
            }
        ),
    }
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(deltas, min_size=1, max_size=5))
def test_whatever_was_accepted_can_be_read_again(
    store: SqliteStore, found: list[dict[str, object]]
) -> None:
    store.forget_device("d")
    for number, delta in enumerate(found):
        try:
            totals = read_delta(delta)
        except ProtocolError:
            continue
        store.save_stats(stats(1, number), totals, 1.0)
    for _, _, totals in store.stats():
        row = totals.row()
        assert row["requests"] <= 2**53
        assert len(row["error_classes"]) <= MAX_ERROR_CLASSES
    assert store.traffic("r", [sha("b")]) == (0, 0)


def release_record(version: str, sequence: int) -> ReleaseRecord:
    return ReleaseRecord(sha(version), make_release(version, sequence, sha("b")), b"{}")


def test_a_version_and_a_sequence_stand_for_one_release(store: SqliteStore) -> None:
    store.add_release(release_record("1.0.0", 1))
    for again in (release_record("1.0.0", 2), release_record("1.1.0", 1)):
        with pytest.raises(ConflictError):
            store.add_release(again)
    assert [record.release.version for record in store.releases()] == ["1.0.0"]


def test_a_generation_never_goes_back(store: SqliteStore) -> None:
    def record(generation: int) -> DesiredRecord:
        document = Desired(device="d", generation=generation, issued_at=0.0, expires_at=1.0)
        return DesiredRecord(document, b"{}")

    store.save_desired(record(2))
    with pytest.raises(FleetError, match="go back"):
        store.save_desired(record(1))
    found = store.desired("d")
    assert found is not None
    assert found.document.generation == 2


def test_a_broken_transaction_leaves_nothing(store: SqliteStore) -> None:
    with pytest.raises(RuntimeError), store.transaction():
        store.add_release(release_record("1.0.0", 1))
        store.save_reported(reported(1, 1), 1.0)
        raise RuntimeError
    assert store.releases() == []
    assert store.devices() == []


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "controller.sqlite"
    SqliteStore(path).close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE meta SET value = '99'")
    with pytest.raises(FleetError, match="schema 99"):
        SqliteStore(path)


@pytest.mark.parametrize("content", [b"", b"not a database at all, but long enough" * 100])
def test_a_file_that_is_no_registry(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "controller.sqlite"
    path.write_bytes(content)
    if not content:
        SqliteStore(path).close()
        return
    with pytest.raises(FleetError, match="cannot be opened"):
        SqliteStore(path)


def test_the_url_decides(tmp_path: Path) -> None:
    open_store(f"sqlite:///{tmp_path / 'x.sqlite'}").close()
    with pytest.raises(UsageError, match="postgresql"):
        open_store("postgresql://host/db")
