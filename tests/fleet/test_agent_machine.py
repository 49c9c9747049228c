"""Properties of the state machine, over every sequence of events."""

from __future__ import annotations

import pytest
from agent_sim import NOW
from hypothesis import given
from hypothesis import strategies as st

from edgeward.errors import EdgewardError, IntegrityError, ProofError, TransferError, TrustError
from edgeward.fleet.agent.clock import BUILD_TIME, trusted_time
from edgeward.fleet.agent.endings import ending, rebooted
from edgeward.fleet.agent.machine import (
    CANCELLABLE,
    PREPARING,
    TRANSITIONS,
    TRIAL,
    UNFINISHED_LIMIT,
    Event,
    after,
    event_for,
    resumed,
)
from edgeward.fleet.agent.memory import Good, Memory, Update
from edgeward.fleet.protocol.documents import Desired, ReleaseRef, State
from edgeward.fleet.protocol.release import Variant

REF = ReleaseRef(model="m", version="1", digest="a" * 64)
VARIANT = Variant(
    bundle="b" * 64,
    target="t",
    target_digest="c" * 64,
    format="onnx",
    precision="fp32",
    size=1,
    engine="e",
)
WALKS = st.lists(st.integers(0, 10), max_size=60)


def walk(choices: list[int]) -> list[tuple[State, Event, State]]:
    """Take the n-th possible event in turn; return the steps."""
    state, path = State.IDLE, []
    for choice in choices:
        events = sorted(TRANSITIONS[state])
        event = events[choice % len(events)]
        following = after(state, event)
        path.append((state, event, following))
        state = following
    return path


@given(WALKS)
def test_commit_comes_only_from_a_good_soak_or_the_running_bundle(choices: list[int]) -> None:
    for state, event, following in walk(choices):
        if following is State.COMMIT:
            assert (state, event) in [(State.SOAK, Event.DONE), (State.PREFLIGHT, Event.SAME)]


@given(WALKS)
def test_nothing_is_active_before_its_gate(choices: list[int]) -> None:
    passed = False
    for state, event, following in walk(choices):
        if following is State.RESOLVE:
            passed = False
        passed = passed or (state, event) == (State.GATE, Event.DONE)
        if following in TRIAL:
            assert passed


@given(WALKS)
def test_a_trial_ends_in_commit_or_rollback(choices: list[int]) -> None:
    for state, _, following in walk(choices):
        if state in TRIAL:
            assert following in {State.SOAK, State.COMMIT, State.ROLLBACK}
        if following is State.QUARANTINE:
            assert state in {State.FINALIZE, State.GATE, State.ROLLBACK}


def test_idle_is_reached_from_everywhere() -> None:
    reaching = {State.IDLE}
    while True:
        more = {s for s, events in TRANSITIONS.items() if reaching & set(events.values())}
        if more <= reaching:
            break
        reaching |= more
    assert reaching == set(State)


@pytest.mark.parametrize("state", list(State))
def test_every_error_has_a_place_to_go(state: State) -> None:
    errors: list[EdgewardError | OSError] = [
        TransferError("x"),
        IntegrityError("x"),
        TrustError("x"),
        ProofError("x"),
        OSError(28, "full"),
    ]
    for error in errors:
        event = event_for(state, error)
        if event is None:
            assert state not in CANCELLABLE
        else:
            assert after(state, event) in State


@pytest.mark.parametrize("error", [TransferError("x"), OSError(28, "full"), IntegrityError("x")])
@pytest.mark.parametrize("state", sorted(CANCELLABLE))
def test_what_heals_never_condemns(state: State, error: EdgewardError | OSError) -> None:
    assert event_for(state, error) in (Event.FAILED, Event.ABANDONED)


def test_what_cannot_happen_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot happen"):
        after(State.IDLE, Event.DONE)


@given(st.sampled_from(list(State)), st.integers(0, 10))
def test_a_restart_never_goes_forward(state: State, unfinished: int) -> None:
    following = resumed(state, unfinished)
    if following is not state:
        assert following in {State.VERIFY, State.ROLLBACK, State.QUARANTINE}
    limit = UNFINISHED_LIMIT.get(state)
    if limit is not None and unfinished >= limit:
        assert following in {State.ROLLBACK, State.QUARANTINE}


def memory(state: State, *, newer: bool = False) -> Memory:
    """Return an agent's memory in the midst of an update."""
    other = ReleaseRef(model="m", version="2", digest="d" * 64)
    desired = Desired(
        device="d",
        generation=2,
        release=other if newer else REF,
        issued_at=NOW,
        expires_at=NOW + 1,
    )
    update = Update(release=REF, generation=1, variant=VARIANT)
    good = Good(bundle="e" * 64, release=REF, sequence=1, target="t")
    return Memory(
        state=state,
        desired=desired,
        settled=False,
        update=None if state is State.IDLE else update,
        good=good,
    )


@given(st.sampled_from(list(State)), st.integers(1, 6), st.booleans())
def test_reboots_count_up_and_end_a_trial_that_takes_the_device_down(
    state: State, boots: int, clean: bool
) -> None:
    found = memory(state)
    for _ in range(boots):
        found = rebooted(found.model_copy(update={"clean": clean}))
    assert found.boot == boots
    assert not found.clean
    given_up = not clean and boots >= UNFINISHED_LIMIT.get(state, boots + 1)
    assert (found.update is not None and found.update.condemned) == given_up
    if given_up:
        assert found.state in {State.ROLLBACK, State.QUARANTINE}
        assert found.problem is not None


@given(
    st.sampled_from(sorted(PREPARING)),
    st.sampled_from([Event.REFUSED, Event.FAILED, Event.ABANDONED]),
    st.booleans(),
)
def test_an_overtaken_update_never_settles_the_newer_document(
    state: State, event: Event, newer: bool
) -> None:
    changes = ending(memory(state, newer=newer), event, None)
    assert changes["update"] is None
    if newer:
        assert changes["settled"] is False
    else:
        assert changes.get("settled", False) is (event is Event.REFUSED)


@pytest.mark.parametrize("state", list(State))
def test_a_memory_without_its_update_starts_over(state: State) -> None:
    found = rebooted(memory(state).model_copy(update={"update": None}))
    assert found.state is State.IDLE


@given(st.floats(0, 2**40), st.floats(0, NOW))
def test_trusted_time_is_never_before_the_build_nor_far_ahead(system: float, seen: float) -> None:
    now = trusted_time(system, seen)
    assert now >= max(BUILD_TIME, seen)
    assert now <= max(BUILD_TIME, seen) + 11 * 365 * 86_400
