"""The rules of a rollout: when a wave passes and when everything stops. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from edgeward.errors import UsageError

from ..protocol.documents import Outcome, Reported, State
from .waves import check_waves


class Member(str, Enum):
    """Where one device stands in a rollout.

    `failed` is a download that broke, a disk that was full: the device tries again by itself,
    so it is under way until its time runs out. `refused` and `rolled-back` are verdicts.
    """

    PENDING = "pending"
    OFFERED = "offered"
    UPDATING = "updating"
    COMMITTED = "committed"
    REFUSED = "refused"
    ROLLED_BACK = "rolled-back"
    FAILED = "failed"
    SILENT = "silent"
    UNFIT = "unfit"
    RETURNED = "returned"


UNDER_WAY = frozenset({Member.OFFERED, Member.UPDATING, Member.FAILED})
FAILURES = frozenset({Member.REFUSED, Member.ROLLED_BACK, Member.SILENT})


class Phase(str, Enum):
    """Where a rollout stands."""

    RUNNING = "running"
    HALTED = "halted"
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class Rules:
    """What an operator asks of a rollout.

    `waves` are cumulative shares. A wave passes when each of its devices has committed, or, with
    `min_sample`, when so many have and the wave is `min_soak_seconds` old. More than
    `max_failures` failed devices halt it, as does an error rate above `max_error_rate` over at
    least `min_requests` requests. A device that says nothing for `wave_timeout_seconds` failed.
    """

    waves: tuple[float, ...] = (0.5, 1.0)
    max_failures: int = 0
    wave_timeout_seconds: float = 3600.0
    min_sample: int | None = None
    min_soak_seconds: float = 0.0
    max_error_rate: float = 0.02
    min_requests: int = 20

    def __post_init__(self) -> None:
        """Refuse rules that could never pass or never halt."""
        check_waves(self.waves)
        if self.min_sample is not None and self.min_sample < 1:
            raise UsageError("The least sample is at least one device")
        if not self.wave_timeout_seconds > 0:
            raise UsageError("The wave's timeout has to be above zero")


@dataclass(frozen=True, slots=True)
class Standing:
    """One device of a rollout as the rules see it; `forgiven` failures were resumed over."""

    device: str
    wave: int
    state: Member
    offered_at: float = 0.0
    forgiven: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """All that a decision rests on; requests and errors are those served by the new release."""

    wave: int
    opened_at: float
    members: Sequence[Standing]
    requests: int = 0
    errors: int = 0


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do yet."""


@dataclass(frozen=True, slots=True)
class Pass:
    """The wave has shown enough: open the next, or the rollout is complete."""


@dataclass(frozen=True, slots=True)
class Halt:
    """Stop: no further device gets the release."""

    reason: str


Decision = Wait | Pass | Halt


def silent(rules: Rules, progress: Progress, now: float) -> list[str]:
    """Return the devices whose time to answer has run out."""
    return [
        member.device
        for member in progress.members
        if member.state in UNDER_WAY and now - member.offered_at > rules.wave_timeout_seconds
    ]


def decide(rules: Rules, progress: Progress, now: float) -> Decision:
    """Say whether the current wave waits, passes or halts the rollout.

    A device that `silent` names is a failure here. The last wave waits for everybody.
    """
    late = set(silent(rules, progress, now))
    failed = [
        m for m in progress.members if not m.forgiven and (m.state in FAILURES or m.device in late)
    ]
    if len(failed) > rules.max_failures:
        return Halt(_failure_reason(failed, late))
    if reason := _error_rate_reason(rules, progress):
        return Halt(reason)
    is_last = progress.wave >= len(rules.waves) - 1
    wave = [m for m in progress.members if is_last or m.wave == progress.wave]
    if any(m.state is Member.PENDING for m in wave):
        return Wait()
    if all(m.state not in UNDER_WAY or m.device in late for m in wave):
        return _with_evidence(rules, progress, now)
    is_sampled = not is_last and _is_sampled(rules, progress, wave, now)
    return Pass() if is_sampled else Wait()


def _with_evidence(rules: Rules, progress: Progress, now: float) -> Decision:
    if not any(m.state is Member.COMMITTED or m.forgiven for m in progress.members):
        return Halt("no device has committed: nothing shows that the release works")
    is_soaked = now - progress.opened_at >= rules.min_soak_seconds
    return Pass() if is_soaked else Wait()


def _is_sampled(rules: Rules, progress: Progress, wave: Sequence[Standing], now: float) -> bool:
    if rules.min_sample is None:
        return False
    committed = sum(member.state is Member.COMMITTED for member in wave)
    return committed >= rules.min_sample and now - progress.opened_at >= rules.min_soak_seconds


def _failure_reason(failed: Sequence[Standing], late: set[str]) -> str:
    first = failed[0]
    is_silent = first.device in late and first.state is not Member.FAILED
    word = "silent" if is_silent else first.state.value
    more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
    return f"{first.device} {word}{more}"


def _error_rate_reason(rules: Rules, progress: Progress) -> str:
    if progress.requests < max(1, rules.min_requests):
        return ""
    rate = progress.errors / progress.requests
    if rate <= rules.max_error_rate:
        return ""
    return (
        f"error rate {rate:.1%} of {progress.requests} requests, at most {rules.max_error_rate:.1%}"
    )


_SETTLED = frozenset({State.IDLE, State.COMMIT, State.ROLLBACK, State.QUARANTINE})
_BY_OUTCOME = {
    Outcome.COMMITTED: Member.COMMITTED,
    Outcome.REFUSED: Member.REFUSED,
    Outcome.ROLLED_BACK: Member.ROLLED_BACK,
    Outcome.FAILED: Member.FAILED,
}
UNFIT_PROBLEMS = frozenset(
    {"NoVariantError", "DoesNotFitError", "UnsupportedError", "no-variant", "does-not-fit"}
)


def member_after(state: Member, reported: Reported) -> Member:
    """Return a member's state after its device reported on the generation that was offered.

    A device may contradict itself (commit after all, or fail after a commit): the newest report
    holds, except that an open question never takes back an answer.
    """
    if state is Member.PENDING:
        return state
    if reported.state not in _SETTLED or reported.outcome is None:
        return Member.UPDATING if state in UNDER_WAY else state
    answer = _BY_OUTCOME[reported.outcome]
    is_unfit = reported.problem is not None and reported.problem.error in UNFIT_PROBLEMS
    if answer in (Member.REFUSED, Member.FAILED) and is_unfit:
        answer = Member.UNFIT
    if state is Member.RETURNED:
        return answer if answer is Member.COMMITTED else state
    return answer
