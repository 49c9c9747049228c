"""Waves and decisions: properties."""

from __future__ import annotations

import math

import pytest
from control_support import sha
from hypothesis import given
from hypothesis import strategies as st

from edgeward.errors import UsageError
from edgeward.fleet.control.rollout import (
    FAILURES,
    UNDER_WAY,
    Halt,
    Member,
    Pass,
    Progress,
    Rules,
    Standing,
    Wait,
    decide,
    member_after,
)
from edgeward.fleet.control.waves import assign, check_waves
from edgeward.fleet.protocol.documents import Outcome, Problem, Reported, State

devices = st.sets(st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True), min_size=1, max_size=60)
shares = st.lists(st.floats(0.001, 0.999), max_size=5, unique=True).map(
    lambda found: (*sorted(found), 1.0)
)


@given(devices, shares, st.text(min_size=1, max_size=10))
def test_each_device_has_one_wave_that_never_changes(
    names: set[str], waves: tuple[float, ...], rollout: str
) -> None:
    found = assign(sorted(names), rollout, waves)
    assert set(found) == names
    assert found == assign(sorted(names, reverse=True) * 2, rollout, waves)
    assert all(0 <= wave < len(waves) for wave in found.values())


@given(devices, shares, st.text(min_size=1, max_size=10))
def test_shares_are_right_to_the_device(
    names: set[str], waves: tuple[float, ...], rollout: str
) -> None:
    found = assign(names, rollout, waves)
    assert 0 in found.values()
    for number, share in enumerate(waves):
        reached = sum(wave <= number for wave in found.values())
        assert reached == 1 or abs(reached - share * len(names)) < 1
        assert reached >= math.floor(share * len(names))


def test_two_devices_in_two_halves_make_one_each() -> None:
    for rollout in ("r1", "r2", "r3", "r4"):
        assert sorted(assign(["a", "b"], rollout, (0.5, 1.0)).values()) == [0, 1]


def test_another_rollout_begins_with_other_devices() -> None:
    names = [f"d{n}" for n in range(50)]
    firsts = {min(names, key=assign(names, f"r{n}", (0.02, 1.0)).__getitem__) for n in range(20)}
    assert len(firsts) > 5


@pytest.mark.parametrize("waves", [(), (0.5,), (0.0, 1.0), (0.5, 0.5, 1.0), (1.0, 0.5), (2.0,)])
def test_waves_that_do_not_rise_to_all_are_refused(waves: tuple[float, ...]) -> None:
    with pytest.raises(UsageError):
        check_waves(waves)


standings = st.lists(
    st.builds(
        Standing,
        device=st.from_regex(r"[a-z]{1,6}", fullmatch=True),
        wave=st.integers(0, 2),
        state=st.sampled_from(sorted(Member)),
        offered_at=st.floats(0, 100),
        forgiven=st.booleans(),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda member: member.device,
)
all_rules = st.builds(
    Rules,
    waves=st.just((0.1, 0.5, 1.0)),
    max_failures=st.integers(0, 3),
    wave_timeout_seconds=st.floats(1, 200),
    min_sample=st.none() | st.integers(1, 5),
    min_soak_seconds=st.floats(0, 50),
)
progresses = st.builds(
    Progress,
    wave=st.integers(0, 2),
    opened_at=st.floats(0, 100),
    members=standings,
    requests=st.integers(0, 1000),
    errors=st.integers(0, 1000),
)


@given(all_rules, progresses, st.floats(100, 400))
def test_decisions_follow_the_rules(rules: Rules, progress: Progress, now: float) -> None:
    decision = decide(rules, progress, now)
    late = [
        m
        for m in progress.members
        if m.state in UNDER_WAY and now - m.offered_at > rules.wave_timeout_seconds
    ]
    failed = [m for m in progress.members if m.state in FAILURES]
    counted = sum(not m.forgiven for m in [*failed, *late])
    is_faulty = progress.requests >= 20 and progress.errors / progress.requests > 0.02
    if counted > rules.max_failures or is_faulty:
        assert isinstance(decision, Halt)
        assert decision.reason
    if isinstance(decision, Pass):
        assert counted <= rules.max_failures
        assert not is_faulty
        here = [m for m in progress.members if m.wave == progress.wave]
        assert not any(m.state is Member.PENDING for m in here)
        assert now - progress.opened_at >= rules.min_soak_seconds
        assert any(m.state is Member.COMMITTED or m.forgiven for m in progress.members)
        if progress.wave == 2 or rules.min_sample is None:
            everyone = progress.members if progress.wave == 2 else here
            assert all(m.state not in UNDER_WAY or m in late for m in everyone)


@given(all_rules, progresses, st.floats(100, 400), st.floats(0, 1000))
def test_time_alone_never_mends_a_halt(
    rules: Rules, progress: Progress, now: float, more: float
) -> None:
    if isinstance(decide(rules, progress, now), Halt):
        assert isinstance(decide(rules, progress, now + more), Halt)


@given(all_rules, progresses, st.floats(100, 400))
def test_waiting_ends(rules: Rules, progress: Progress, now: float) -> None:
    decision = decide(rules, progress, now)
    pending = any(m.state is Member.PENDING for m in progress.members)
    if isinstance(decision, Wait) and not pending:
        assert not isinstance(decide(rules, progress, now + 10_000), Wait)


def standing(device: str, state: Member, wave: int = 0) -> Standing:
    return Standing(device, wave, state, offered_at=100.0)


def test_a_gate_refusal_halts_and_names_the_device() -> None:
    members = [standing("a", Member.COMMITTED), standing("b", Member.REFUSED)]
    decision = decide(Rules(), Progress(0, 100.0, members), 101.0)
    assert decision == Halt("b refused")


def test_silence_is_a_failure_at_its_time_and_not_before() -> None:
    rules = Rules(wave_timeout_seconds=10.0)
    progress = Progress(0, 100.0, [standing("a", Member.OFFERED)])
    assert isinstance(decide(rules, progress, 110.0), Wait)
    assert decide(rules, progress, 110.1) == Halt("a silent")


def test_a_straggler_of_a_sampled_wave_still_halts_a_later_one() -> None:
    rules = Rules(waves=(0.3, 0.6, 1.0), min_sample=1)
    first = [standing("a", Member.COMMITTED), standing("b", Member.UPDATING)]
    assert isinstance(decide(rules, Progress(0, 100.0, first), 101.0), Pass)
    later = [first[0], standing("b", Member.ROLLED_BACK), standing("c", Member.OFFERED, 1)]
    assert decide(rules, Progress(1, 100.0, later), 101.0) == Halt("b rolled-back")


def test_devices_that_cannot_take_it_are_no_failure_but_no_evidence_either() -> None:
    unfit = [standing("a", Member.UNFIT)]
    assert isinstance(decide(Rules(), Progress(0, 100.0, unfit), 101.0), Halt)
    both = [*unfit, standing("b", Member.COMMITTED)]
    assert isinstance(decide(Rules(), Progress(0, 100.0, both), 101.0), Pass)


def test_errors_in_service_halt_only_over_enough_requests() -> None:
    members = [standing("a", Member.COMMITTED), standing("b", Member.OFFERED)]
    few = Progress(0, 100.0, members, requests=19, errors=19)
    assert isinstance(decide(Rules(), few, 101.0), Wait)
    many = Progress(0, 100.0, members, requests=100, errors=3)
    decision = decide(Rules(), many, 101.0)
    assert isinstance(decision, Halt)
    assert "3.0%" in decision.reason


def report(state: State, outcome: Outcome | None, error: str = "") -> Reported:
    return Reported(
        device="a",
        boot=1,
        sequence=1,
        at=0.0,
        agent="t",
        generation=1,
        state=state,
        outcome=outcome,
        problem=Problem(error=error, what="w") if error else None,
        active=sha("x"),
    )


@pytest.mark.parametrize(
    ("before", "state", "outcome", "error", "after"),
    [
        (Member.OFFERED, State.DOWNLOAD, None, "", Member.UPDATING),
        (Member.OFFERED, State.RESOLVE, Outcome.COMMITTED, "", Member.UPDATING),
        (Member.UPDATING, State.IDLE, Outcome.COMMITTED, "", Member.COMMITTED),
        (Member.UPDATING, State.QUARANTINE, Outcome.REFUSED, "", Member.REFUSED),
        (Member.UPDATING, State.IDLE, Outcome.ROLLED_BACK, "", Member.ROLLED_BACK),
        (Member.UPDATING, State.IDLE, Outcome.FAILED, "", Member.FAILED),
        (Member.UPDATING, State.IDLE, Outcome.REFUSED, "DoesNotFitError", Member.UNFIT),
        (Member.SILENT, State.IDLE, Outcome.COMMITTED, "", Member.COMMITTED),
        (Member.SILENT, State.DOWNLOAD, None, "", Member.SILENT),
        (Member.COMMITTED, State.SOAK, None, "", Member.COMMITTED),
        (Member.RETURNED, State.IDLE, Outcome.FAILED, "", Member.RETURNED),
        (Member.RETURNED, State.IDLE, Outcome.COMMITTED, "", Member.COMMITTED),
        (Member.PENDING, State.IDLE, Outcome.COMMITTED, "", Member.PENDING),
    ],
)
def test_a_report_moves_a_member(
    before: Member, state: State, outcome: Outcome | None, error: str, after: Member
) -> None:
    assert member_after(before, report(state, outcome, error)) is after


def test_the_last_wave_waits_for_everybody_whatever_the_sample() -> None:
    rules = Rules(waves=(0.5, 1.0), min_sample=1)
    members = [standing("a", Member.COMMITTED, 1), standing("b", Member.UPDATING)]
    assert isinstance(decide(rules, Progress(1, 100.0, members), 101.0), Wait)
