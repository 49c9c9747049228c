"""Jobs as documents and as rules: what strangers send, and that nothing is done twice."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.errors import ProtocolError, TrustError, UnsupportedError, UsageError
from edgeward.fleet.agent.jobs import ledger as rules
from edgeward.fleet.agent.jobs.ledger import Jobs, ended, taken, tried, without
from edgeward.fleet.agent.jobs.order import read_answer
from edgeward.fleet.protocol.actions import check_arguments
from edgeward.fleet.protocol.benchmark import Benchmark
from edgeward.fleet.protocol.documents import Desired, Problem
from edgeward.fleet.protocol.jobs import (
    MAX_ANSWER_BYTES,
    MAX_AWAITED,
    MAX_JOB_BYTES,
    MAX_RESULT_BYTES,
    MAX_WAITING,
    Job,
    JobReport,
    JobState,
    check_job_size,
    pack,
    unpack,
)
from edgeward.fleet.protocol.wire import decode, encode
from edgeward.fleet.trust.envelope import seal_bytes, unseal
from edgeward.fleet.trust.keys import SigningKey

KEY = SigningKey(Ed25519PrivateKey.generate())
plain = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20)
arguments = st.dictionaries(st.text(max_size=10), plain, max_size=8)
names = st.from_regex(r"[0-9a-z-]{1,64}", fullmatch=True)


def a_job(number: int = 1, **changes: Any) -> Job:
    fields = {"id": f"j-{number}", "device": "d", "action": "benchmark"}
    return Job(**{**fields, "issued_at": 0.0, "expires_at": 100.0, **changes})


@settings(deadline=None)
@given(names, arguments, st.floats(0, 2**40), st.floats(0, 2**40))
def test_a_job_survives_its_envelope(
    name: str, given_arguments: dict[str, Any], issued: float, expires: float
) -> None:
    job = a_job(id=name, arguments=given_arguments, issued_at=issued, expires_at=expires)
    sealed = seal_bytes(job, KEY)
    assert unseal(sealed, Job, [KEY.public]) == job
    (envelope,), awaited = unpack(pack([sealed], [name]))
    assert unseal(envelope, Job, [KEY.public]) == job
    assert awaited == {name}


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_changed_byte_is_never_another_job(position: int, byte: int) -> None:
    job = a_job(arguments={"bundle": "0" * 64, "threads": 1})
    sealed = bytearray(seal_bytes(job, KEY))
    sealed[position % len(sealed)] = byte
    try:
        found = unseal(bytes(sealed), Job, [KEY.public])
    except (TrustError, ProtocolError):
        return
    assert found == job


def test_a_signature_for_a_job_serves_for_nothing_else() -> None:
    sealed = seal_bytes(a_job(), KEY)
    with pytest.raises(ProtocolError, match="Expected a desired"):
        unseal(sealed, Desired, [KEY.public])


@settings(deadline=None)
@given(st.binary(max_size=300) | st.recursive(plain, st.lists, max_leaves=5).map(json.dumps))
def test_no_list_of_jobs_does_harm(data: bytes | str) -> None:
    try:
        envelopes, awaited = unpack(data.encode() if isinstance(data, str) else data)
    except ProtocolError:
        return
    assert all(isinstance(each, dict) for each in envelopes)
    assert all(isinstance(each, str) for each in awaited)


def test_the_longest_list_is_read_and_a_longer_one_is_not() -> None:
    big = a_job(arguments={"x": "y" * (MAX_JOB_BYTES - 600)}, device="d" * 64)
    sealed = check_job_size(seal_bytes(big, KEY))
    answer = pack([sealed] * MAX_WAITING, ["a" * 64] * MAX_AWAITED)
    assert len(unpack(answer)[0]) == MAX_WAITING
    with pytest.raises(ProtocolError, match="too large"):
        unpack(answer + b" " * MAX_ANSWER_BYTES)
    with pytest.raises(ProtocolError, match="too large"):
        check_job_size(seal_bytes(a_job(arguments={"x": "y" * MAX_JOB_BYTES}), KEY))


def test_the_largest_report_fits_a_message() -> None:
    text = "\u20ac" * 2000
    filled = {"x": "y" * (MAX_RESULT_BYTES - 8)}
    report = JobReport(
        job="a" * 64,
        device="d" * 64,
        state=JobState.DONE,
        problem=Problem(error="e" * 200, what=text, why=text),
        result=filled,
        at=2.0**40,
    )
    assert decode(encode(report), JobReport) == report


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "state"),
        (b'{"state":"perfect"}', "state"),
        (b'{"state":"done","result":{"x":NaN}}', "not JSON"),
        (b'{"state":"done","result":5}', "result"),
        (b'{"state":"done","result":{"x":"' + b"y" * MAX_RESULT_BYTES + b'"}}', "too large"),
    ],
)
def test_an_answer_that_is_none_says_why(output: bytes, words: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        read_answer(output)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bundle": "latest"},
        {"bundle": "../../etc"},
        {"scenario": "MultiStream"},
        {"threads": -1},
        {"batch": 0},
        {"prompt": "12"},
        {"rate": 0},
        {"memory_bytes": True},
        {"least_seconds": 1e9},
    ],
)
def test_a_benchmark_of_a_wrong_kind_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        check_arguments("benchmark", wrong)


def test_an_unknown_action_is_refused() -> None:
    check_arguments("benchmark", Benchmark().model_dump(mode="json"))
    with pytest.raises(UnsupportedError, match="no job 'reboot'"):
        check_arguments("reboot", {})


steps = st.lists(
    st.tuples(
        st.sampled_from(["take", "end", "try", "settle", "wait"]),
        st.integers(0, 12),
        st.floats(1, 60),
    ),
    min_size=15,
    max_size=60,
)


@settings(max_examples=100, deadline=None)
@given(steps, st.integers(2, 6))
def test_whatever_comes_in_whatever_order_nothing_is_begun_after_it_was_done(
    order: list[tuple[str, int, float]], room: int
) -> None:
    """Also with hardly any room to remember, and jobs that come again and again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "MAX_DONE", room)
        jobs, now, done = Jobs(), 0.0, set()
        for what, number, amount in order:
            job = a_job(number, expires_at=50.0 + 10.0 * number)
            if what == "take":
                jobs = taken(jobs, job, now)
            elif what == "end" and any(w.job.id == job.id for w in jobs.waiting):
                jobs = ended(jobs, job.id)
                assert job.id not in done
                done.add(job.id)
            elif what == "try":
                jobs = tried(jobs, job.id, 1)
            elif what == "settle":
                jobs = without(jobs, frozenset({job.id}), now, None)
            elif what == "wait":
                now += amount
            assert not done & {w.job.id for w in jobs.waiting}
            assert len(jobs.done) + len(jobs.waiting) <= room
            assert Jobs.model_validate_json(jobs.model_dump_json()) == jobs
        # A clock that goes back revives none of them.
        for number in range(13):
            jobs = taken(jobs, a_job(number, expires_at=50.0 + 10.0 * number), 0.0)
        assert not done & {w.job.id for w in jobs.waiting}


def test_what_is_forgotten_is_not_done_again_whatever_the_clock_does() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "MAX_DONE", 2)
        jobs = Jobs()
        for number in (1, 2):
            jobs = ended(taken(jobs, a_job(number), 0.0), f"j-{number}")
        assert taken(jobs, a_job(3), 50.0) == jobs, "there is no room for what may come again"
        jobs = taken(jobs, a_job(3, expires_at=200.0), 150.0)
        assert [w.job.id for w in jobs.waiting] == ["j-3"], "room comes back with time"
        assert not jobs.knows("j-1")
        assert taken(jobs, a_job(1), 0.0) == jobs, "a clock that goes back revives nothing"
        assert taken(jobs, a_job(4, expires_at=200.0), 200.0) == jobs, "nor is an expired one taken"
