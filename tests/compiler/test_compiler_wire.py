import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.compiler.wire import (
    Failure,
    LineReader,
    LineTooLongError,
    Log,
    Metric,
    Progress,
    Result,
    parse,
)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.lists(st.binary(max_size=40).filter(lambda b: b"\n" not in b)), st.integers(1, 7))
def test_lines_come_out_whole_however_they_are_cut(lines, step):
    stream = b"".join(line + b"\n" for line in lines)
    reader = LineReader()
    out = [
        line
        for start in range(0, len(stream), step)
        for line in reader.feed(stream[start : start + step])
    ]
    assert out == lines


@given(st.integers(0, 30), st.integers(1, 7))
def test_a_line_without_an_end_is_refused_at_the_limit(extra, step):
    reader = LineReader(limit=20)
    stream = b"z" * (21 + extra)
    with pytest.raises(LineTooLongError):
        for start in range(0, len(stream), step):
            list(reader.feed(stream[start : start + step]))


def test_a_line_that_ends_but_is_too_long_is_refused():
    with pytest.raises(LineTooLongError):
        list(LineReader(limit=20).feed(b"z" * 21 + b"\n"))
    assert list(LineReader(limit=20).feed(b"z" * 20 + b"\n")) == [b"z" * 20]


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_to_something_harmless(line):
    message = parse(line, 1)
    assert message is None or isinstance(message, Log)


@given(
    st.dictionaries(
        st.sampled_from(
            ["type", "id", "fraction", "text", "name", "value", "data", "peak", "classes", "what"]
        ),
        values,
    ),
    st.sampled_from(["progress", "metric", "log", "result", "error", "ready", "other"]),
)
def test_hostile_fields_become_checked_values(fields, kind):
    message = parse(json.dumps({**fields, "type": kind, "id": 1}).encode(), 1)
    assert message is not None
    if isinstance(message, Progress):
        assert message.fraction is None or 0 <= message.fraction <= 1
    if isinstance(message, Metric):
        assert message.name and abs(message.value) < float("inf")
    if isinstance(message, Result):
        assert isinstance(message.data, dict) and message.peak_bytes >= 0
    if isinstance(message, Failure):
        assert all(isinstance(name, str) for name in message.classes)


def test_deep_nesting_is_a_log_line_not_a_crash():
    assert isinstance(parse(b"[" * 200_000, 1), Log)


def test_an_answer_to_another_request_is_dropped():
    assert parse(b'{"type": "result", "id": 1, "data": {}}', 2) is None
    assert parse(b'{"type": "result", "id": 2, "data": {}}', 2) == Result({}, 0)


def test_a_huge_integer_is_no_metric():
    line = b'{"type": "metric", "id": 1, "name": "n", "value": 1' + b"0" * 400 + b"}"
    assert isinstance(parse(line, 1), Log)
