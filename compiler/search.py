"""`--precision auto`: the fastest recipe whose artifact meets its tolerances on this target."""

from __future__ import annotations

from collections.abc import Sequence

from edgeward.errors import UnsupportedError
from edgeward.runtimes.bundle.manifest import Tried

from .formats.base import Job, Stages
from .package import Proved
from .progress import NullReporter
from .prove import prove, race
from .recipe import EXACT
from .texts import ProofTexts


def search(
    jobs: Sequence[Job], texts: ProofTexts, stages: Stages, reporter: NullReporter
) -> tuple[Proved, list[Tried]]:
    """Prove every job that is needed, time those that pass in turn, return the fastest.

    The whole trail comes with it. Where the exact one falls short nothing else is trusted, and it
    is returned; so is the first where none passes. Where their engine does not run here, the
    smallest is taken for the fastest. Raises UnsupportedError where none can be made.
    """
    proved: list[Proved] = []
    trail: list[Tried] = []
    refused: UnsupportedError | None = None
    for job in jobs:
        unless = job.recipe.unless
        if unless in (one.job.recipe.precision for one in proved if not one.failures):
            reason = f"not tried: {unless} passes"
            trail.append(Tried(precision=job.recipe.precision, passed=False, reason=reason))
            continue
        try:
            one = prove(job, texts, stages)
        except UnsupportedError as error:
            refused = error
            trail.append(Tried(precision=job.recipe.precision, passed=False, reason=error.what))
            continue
        if one.failures:
            reason = ", ".join(check.shortfall for check in one.failures)
            trail.append(Tried(precision=job.recipe.precision, passed=False, reason=reason))
        if not one.failures or not proved:
            proved.append(one)
    if refused is not None and not proved:
        raise refused
    kept = [one for one in proved if not one.failures]
    if not kept or (proved[0].failures and proved[0].job.recipe.precision == EXACT):
        return proved[0], trail
    timed = kept[0].benchmark is not None
    ratios = race(kept, stages) if timed else _sizes(kept)
    say, first = _by_time if timed else _by_size, kept[0].job.recipe.precision
    trail += [say(name, ratio, first) for name, ratio in ratios.items()]
    for tried in trail:
        reporter.note(f"auto: {tried.precision}: {tried.reason}")
    return min(kept, key=lambda one: ratios[one.job.recipe.precision]), trail


def _sizes(proved: Sequence[Proved]) -> dict[str, float]:
    """Return each artifact's size over the first one's, by precision."""
    first = proved[0].artifact.size_bytes
    return {one.job.recipe.precision: one.artifact.size_bytes / first for one in proved}


def _by_time(name: str, ratio: float, first: str) -> Tried:
    return Tried(precision=name, passed=True, time_ratio=ratio, reason=_against(ratio, first))


def _by_size(name: str, ratio: float, first: str) -> Tried:
    reason = f"passes, {ratio:.2f} times {first}'s size: its time is to be had on the device alone"
    return Tried(precision=name, passed=True, reason=reason)


def _against(ratio: float, first: str) -> str:
    if ratio > 1:
        return f"{ratio:.2f} times {first}'s time: slower here, not taken"
    return "passes" if ratio == 1 else f"passes, {ratio:.2f} times {first}'s time"
