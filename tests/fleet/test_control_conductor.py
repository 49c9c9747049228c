"""Whole rollouts in a clock of their own: no network, no threads, the real registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from control_support import Bench, bench

from edgeward.errors import UsageError
from edgeward.fleet.control.desired import LIFETIME_SECONDS
from edgeward.fleet.control.inbox import Interval
from edgeward.fleet.control.problems import ConflictError, NotThereError
from edgeward.fleet.control.rollout import Rules
from edgeward.fleet.control.stats import Totals
from edgeward.fleet.protocol.documents import Outcome, Policy, Problem, State, Stats


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as made:
        yield made


def begin(at: Bench, count: int = 4, to: str = "all", **rules: object) -> str:
    for number in range(count):
        at.say(f"d{number}")
    at.add_release("1.0.0", 1)
    record = at.controller.create_rollout("kiosk", "1.0.0", to, Rules(**rules), Policy())  # type: ignore[arg-type]
    return record.id


def test_wave_one_commits_then_wave_two_opens_then_it_is_complete(at: Bench) -> None:
    rollout = begin(at)
    first, second = at.wave(rollout, 0), at.wave(rollout, 1)
    assert len(first) == len(second) == 2
    assert {name.split("/")[3] for name in at.link.sent} == set(first)
    at.answer(first[0], Outcome.COMMITTED)
    assert len(at.link.sent) == 2
    at.answer(first[1], Outcome.COMMITTED)
    assert {name.split("/")[3] for name in at.link.sent} == {*first, *second}
    for device in second:
        at.answer(device, Outcome.COMMITTED)
    assert at.controller.conductor.find(rollout).phase.value == "complete"
    kinds = [event.kind for event in at.store.events(rollout)]
    assert kinds[0] == "created"
    assert kinds[-1] == "complete"
    assert kinds.count("wave-opened") == 2


def test_a_refusal_halts_and_later_waves_never_hear_of_it(at: Bench) -> None:
    rollout = begin(at)
    first, second = at.wave(rollout, 0), at.wave(rollout, 1)
    at.answer(first[0], Outcome.COMMITTED)
    at.answer(first[1], Outcome.REFUSED)
    record = at.controller.conductor.find(rollout)
    assert (record.phase.value, record.reason) == ("halted", f"{first[1]} refused")
    assert not any(f"/{device}/" in name for device in second for name in at.link.sent)
    kept, returned = (at.link.desired(device, at.key.public) for device in first)
    assert (kept.generation, kept.rollout) == (1, rollout)
    assert (returned.generation, returned.rollout, returned.release) == (2, None, None)


def test_a_halt_gives_back_the_release_from_before(at: Bench) -> None:
    rollout = begin(at, count=2, waves=(1.0,))
    for device in at.wave(rollout, 0):
        at.answer(device, Outcome.COMMITTED)
    at.add_release("1.1.0", 2)
    second = at.controller.create_rollout("kiosk", "1.1.0", "all", Rules(), Policy())
    (device,) = at.wave(second.id, 0)
    assert at.link.desired(device, at.key.public).release.version == "1.1.0"  # type: ignore[union-attr]
    at.controller.halt(second.id, "changed my mind")
    desired = at.link.desired(device, at.key.public)
    assert desired.release is not None
    assert desired.release.version == "1.0.0"
    assert desired.generation == 3
    assert at.states(second.id)[device] == "returned"


def test_silence_halts(at: Bench) -> None:
    rollout = begin(at, wave_timeout_seconds=60.0)
    at.clock.now += 60
    at.work()
    assert at.controller.conductor.find(rollout).phase.value == "running"
    at.clock.now += 1
    at.work()
    record = at.controller.conductor.find(rollout)
    assert record.phase.value == "halted"
    assert "silent" in record.reason
    assert {at.states(rollout)[d] for d in at.wave(rollout, 0)} == {"returned"}
    assert {at.states(rollout)[d] for d in at.wave(rollout, 1)} == {"pending"}


def test_resumed_passes_over_what_failed_and_goes_on(at: Bench) -> None:
    rollout = begin(at)
    first, second = at.wave(rollout, 0), at.wave(rollout, 1)
    at.answer(first[0], Outcome.REFUSED)
    assert at.states(rollout)[first[1]] == "returned"
    at.controller.resume(rollout)
    assert at.states(rollout)[first[0]] == "refused"
    assert at.link.desired(first[1], at.key.public).generation == 3
    at.answer(first[1], Outcome.COMMITTED)
    for device in second:
        at.answer(device, Outcome.COMMITTED)
    assert at.controller.conductor.find(rollout).phase.value == "complete"


def test_resumed_with_a_retry_offers_it_to_the_failed_again(at: Bench) -> None:
    rollout = begin(at, count=1)
    at.answer("d0", Outcome.ROLLED_BACK)
    at.controller.resume(rollout, retry_failed=True)
    assert at.states(rollout) == {"d0": "offered"}
    at.answer("d0", Outcome.COMMITTED)
    assert at.controller.conductor.find(rollout).phase.value == "complete"


def test_a_commit_that_was_on_its_way_at_the_halt_stays(at: Bench) -> None:
    rollout = begin(at, count=1)
    told = at.link.desired("d0", at.key.public)
    at.controller.halt(rollout, "stop")
    about = {"rollout": rollout, "release": told.release, "generation": told.generation}
    at.say("d0", outcome=Outcome.COMMITTED, **about)
    assert at.states(rollout) == {"d0": "committed"}
    desired = at.link.desired("d0", at.key.public)
    assert (desired.generation, desired.release) == (3, told.release)


def test_reports_about_other_generations_or_rollouts_move_nothing(at: Bench) -> None:
    rollout = begin(at, count=1)
    at.say("d0", generation=2, rollout=rollout, outcome=Outcome.COMMITTED)
    at.say("d0", generation=1, rollout="r9-other", outcome=Outcome.COMMITTED)
    at.say("d0", generation=1, rollout=None, outcome=Outcome.COMMITTED)
    assert at.states(rollout) == {"d0": "offered"}


def test_a_device_without_a_variant_neither_halts_nor_counts(at: Bench) -> None:
    rollout = begin(at, count=2, waves=(1.0,))
    at.answer("d0", Outcome.REFUSED, Problem(error="DoesNotFitError", what="no variant"))
    at.answer("d1", Outcome.COMMITTED)
    assert at.controller.conductor.find(rollout).phase.value == "complete"
    assert at.states(rollout) == {"d0": "unfit", "d1": "committed"}


def test_the_middle_of_a_rollout_survives_a_restart(at: Bench) -> None:
    rollout = begin(at)
    first, second = at.wave(rollout, 0), at.wave(rollout, 1)
    at.answer(first[0], Outcome.COMMITTED)
    at.restart()
    at.controller._tell_everybody()
    assert {at.link.desired(device, at.key.public).generation for device in first} == {1}
    at.answer(first[1], Outcome.COMMITTED)
    assert at.states(rollout)[second[0]] == "offered"


def test_errors_in_service_halt(at: Bench) -> None:
    rollout = begin(at)
    first = at.wave(rollout, 0)[0]
    at.answer(first, Outcome.COMMITTED)
    release = at.store.releases()[0].release
    stats = Stats(
        device=first,
        boot=1,
        sequence=1,
        bundle=release.variants[0].bundle,
        started_at=0.0,
        ended_at=1.0,
        delta={},
    )
    totals = Totals(requests=50, errors={"EngineError": 5})
    at.controller.step([Interval(stats, totals)])
    record = at.controller.conductor.find(rollout)
    assert record.phase.value == "halted"
    assert "10.0%" in record.reason
    at.controller.resume(rollout)
    at.work()
    assert at.controller.conductor.find(rollout).phase.value == "running"


def test_two_rollouts_do_not_share_a_device(at: Bench) -> None:
    begin(at)
    at.add_release("2.0.0", 2)
    with pytest.raises(ConflictError, match="take part"):
        at.controller.create_rollout("kiosk", "2.0.0", "d0", Rules(), Policy())


def test_a_generation_is_above_what_the_device_has_seen_elsewhere(at: Bench) -> None:
    at.say("d0", generation=41)
    at.add_release("1.0.0", 1)
    at.controller.create_rollout("kiosk", "1.0.0", "d0", Rules(), Policy())
    assert at.link.desired("d0", at.key.public).generation == 42


def test_a_desired_document_is_renewed_at_half_its_life(at: Bench) -> None:
    begin(at, count=1, wave_timeout_seconds=1e9)
    before = at.link.desired("d0", at.key.public)
    at.clock.now += LIFETIME_SECONDS / 2 + 1000
    at.say("d0", state=State.DOWNLOAD, generation=1)
    after = at.link.desired("d0", at.key.public)
    assert after.generation == before.generation
    assert after.expires_at > before.expires_at


def test_addressing_by_label_and_by_id(at: Bench) -> None:
    for name in ("d0", "d1", "d2"):
        at.say(name)
    at.add_release("1.0.0", 1)
    at.store.set_labels("d1", ["store"], [])
    record = at.controller.create_rollout("kiosk", "1.0.0", "label:store", Rules(), Policy())
    assert list(at.states(record.id)) == ["d1"]
    record = at.controller.create_rollout("kiosk", "1.0.0", "d0,d2", Rules(), Policy())
    assert sorted(at.states(record.id)) == ["d0", "d2"]


@pytest.mark.parametrize(
    ("to", "error"),
    [
        ("nobody", NotThereError),
        ("label:none", NotThereError),
        (",,", UsageError),
        ("label:../x", UsageError),
        ("d0,d0;DROP TABLE devices", NotThereError),
    ],
)
def test_addressing_nobody_is_refused(at: Bench, to: str, error: type[Exception]) -> None:
    at.say("d0")
    at.add_release("1.0.0", 1)
    with pytest.raises(error):
        at.controller.create_rollout("kiosk", "1.0.0", to, Rules(), Policy())
    assert at.store.rollouts() == []
    assert at.link.sent == {}


def test_a_failure_that_the_device_mends_itself_halts_nothing(at: Bench) -> None:
    rollout = begin(at, count=1, wave_timeout_seconds=60.0)
    at.answer("d0", Outcome.FAILED, Problem(error="TransferError", what="the line broke"))
    assert at.states(rollout) == {"d0": "failed"}
    about = {"generation": 1, "rollout": rollout}
    at.say("d0", state=State.DOWNLOAD, **about)
    assert at.states(rollout) == {"d0": "updating"}
    at.say("d0", outcome=Outcome.COMMITTED, **about)
    assert at.controller.conductor.find(rollout).phase.value == "complete"


def test_a_failure_that_lasts_halts_in_time(at: Bench) -> None:
    rollout = begin(at, count=1, wave_timeout_seconds=60.0)
    at.answer("d0", Outcome.FAILED, Problem(error="TransferError", what="the line broke"))
    at.clock.now += 61
    at.work()
    record = at.controller.conductor.find(rollout)
    assert (record.phase.value, record.reason) == ("halted", "d0 failed")
