"""Hostile messages straight into the controller's handler."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from control_support import Bench, bench, sha
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeward.fleet.control import inbox
from edgeward.fleet.protocol.documents import Online, Reported, State, Stats
from edgeward.fleet.protocol.topics import CHANNELS, topic
from edgeward.fleet.protocol.wire import encode

RELAXED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as made:
        yield made


def valid(device: str = "d0", **changes: Any) -> dict[str, Any]:
    document = Reported(
        device=device, boot=1, sequence=1, at=0.0, agent="t", generation=0, state=State.IDLE
    )
    return document.model_dump(mode="json") | changes


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([sha("x"), "d0", "1.0", 2**53, 2**64, -1, 1e308]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner),
    max_leaves=10,
)
topics = st.text(max_size=80) | st.builds(
    "edgeward/v1/d/{}/{}".format,
    st.sampled_from(["d0", "d1", "", "..", "+", "#", "D0", "d0/x", "x" * 65, "\0"]),
    st.sampled_from([*CHANNELS, "cmd", "", "reported/x"]),
)
documents = st.sampled_from([Reported, Online, Stats]).flatmap(
    lambda model: st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(model.model_fields, json_values),
    ).map(lambda fields: {"kind": model.model_fields["kind"].default, **fields})
)
mutations = st.dictionaries(st.sampled_from(sorted(Reported.model_fields)), json_values).map(
    lambda changes: valid() | changes
)
payloads = st.binary(max_size=200) | st.one_of(documents, mutations, json_values).map(
    lambda document: json.dumps(document).encode("utf-8", "surrogatepass")
)


@RELAXED
@given(st.lists(st.tuples(topics, payloads), min_size=1, max_size=10))
def test_any_topic_and_any_bytes_are_survived(at: Bench, found: list[tuple[str, bytes]]) -> None:
    for name, payload in found:
        at.controller.on_message(name, payload)
    at.work()
    assert at.controller.dropped == 0
    before = at.controller.refusals.total
    at.controller.on_message("nonsense", b"x")
    assert at.controller.refusals.total == before + 1


def test_another_devices_document_is_refused(at: Bench) -> None:
    payload = json.dumps(valid("d1")).encode()
    at.controller.on_message(topic("d0", "reported"), payload)
    at.work()
    assert at.store.devices() == []
    assert at.controller.refusals.total == 1
    at.controller.on_message(topic("d1", "reported"), payload)
    at.work()
    assert [device.id for device in at.store.devices()] == ["d1"]


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff\xfe",
        b"[]",
        b"{}" * 40_000,
        b"[" * 60_000,
        b'{"a":' * 30_000,
        json.dumps(valid(boot=2**60)).encode(),
        json.dumps(valid(at=float("nan"))).encode(),
        json.dumps(valid(schema_version="2.0")).encode(),
        json.dumps(valid(sequence="1")).encode(),
        json.dumps(valid(kind="online")).encode(),
        json.dumps(valid(problem={"error": "e", "what": "x" * 5000})).encode(),
        json.dumps(valid(agent="\ud800")).encode(),
    ],
)
def test_documents_that_are_not_right_are_counted_and_dropped(at: Bench, payload: bytes) -> None:
    at.controller.on_message(topic("d0", "reported"), payload)
    at.work()
    assert at.controller.refusals.total == 1
    assert at.store.devices() == []


def test_a_cleared_retained_message_is_nothing(at: Bench) -> None:
    at.controller.on_message(topic("d0", "reported"), b"")
    at.work()
    assert (at.controller.refusals.total, at.store.devices()) == (0, [])


def test_nobody_forges_a_desired_document(at: Bench) -> None:
    at.controller.on_message(topic("d0", "desired"), json.dumps(valid()).encode())
    assert at.controller.refusals.total == 1


@pytest.mark.parametrize(
    "delta",
    [
        {},
        {"requests": -1},
        {"requests": 1, "errors": {"x" * 500: 1}},
        {"requests": 1, "errors": {str(n): 1 for n in range(99)}},
        {"requests": 1, "sketches": {"latency_ms": {"accuracy": 0.5}}},
        {"requests": 1, "sketches": {"latency_ms": {"accuracy": 0.01, "bins": [[1, 10**30]]}}},
    ],
)
def test_hostile_statistics_are_refused(at: Bench, delta: dict[str, Any]) -> None:
    document = Stats(
        device="d0",
        boot=1,
        sequence=1,
        bundle=sha("b"),
        started_at=0.0,
        ended_at=1.0,
        delta=delta,
    )
    at.controller.on_message(topic("d0", "stats"), encode(document))
    at.work()
    assert at.controller.refusals.total == 1
    assert at.store.stats() == []


def test_a_flood_is_logged_once_in_a_while(at: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for number in range(1000):
            at.controller.on_message(f"flood/{number}\n", b"x")
        assert len(caplog.records) == 1
        at.clock.now += inbox.LOG_EVERY_SECONDS
        at.controller.on_message("flood", b"x")
    assert len(caplog.records) == 2
    assert all("\n" not in record.getMessage() for record in caplog.records)
    assert at.controller.refusals.total == 1001
