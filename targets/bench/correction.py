"""A profile's shares of bandwidth and rate, corrected from what the fleet's devices measured.

A plan is a roofline: what a token takes hangs on the bandwidth that is reached, what a prompt or an
encoder's input takes on the rate. Each share is that at which the median of the records is planned
as it was measured; the two are looked for in turn, since each figure has a little of both.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeward.errors import EdgewardError, UsageError
from edgeward.runtimes.bundle.read import Bundle, open_bundle
from edgeward.targets.load import load
from edgeward.targets.plan.facts import ModelFacts
from edgeward.targets.profile import Profile

from .predicted import FIGURES, Predictor, facts_of

LEAST, MOST = 0.001, 2.0
_ROUNDS, _HALVINGS = 3, 16
# A figure that a share moves by less than this says nothing of it.
_LEAST_MOVED = math.log(1.05)
# The share, and the planned figures that tell it.
SHARES = {"bandwidth": ("tpot_ms",), "compute": ("ttft_ms", "latency_ms")}


@dataclass(frozen=True, slots=True)
class Measured:
    """A record of the target, and what its model is to the planner."""

    record: Mapping[str, Any]
    bundle: Bundle
    facts: ModelFacts

    def off(self, profile: Profile, figures: Sequence[str]) -> float | None:
        """Return the logarithm of the planned over the measured figure, None where one is not."""
        planned = Predictor(self.bundle, [profile], self.facts).beside(self.record)
        for name in figures:
            predicted, measured = planned.get(f"predicted_{name}"), self.record.get(FIGURES[name])
            if predicted and measured:
                return math.log(predicted / measured)
        return None


@dataclass(frozen=True, slots=True)
class Corrected:
    """One share: what it is, of how many records, and their median error before and after.

    Errors are of the planned over the measured figure, in percent.
    """

    share: str
    value: float
    records: Sequence[Mapping[str, Any]]
    error_before: float
    error_after: float

    @property
    def source(self) -> str:
        """Where the number comes from, as a profile cites it."""
        names = sorted({str(each["device"]) for each in self.records})
        days = sorted({str(each["test_time"])[:10] for each in self.records})
        devices = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        return (
            f"measured on {devices}, {when}, {len(self.records)} records of `edgeward bench --on`"
        )


@dataclass(slots=True)
class Correction:
    """What the records of a target say of its profile; `passed_over` counts those left out."""

    target: str
    shares: list[Corrected] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)

    def document(self) -> dict[str, object]:
        """Return the profile of the user's own, over the one that it corrects."""
        return {
            "extends": self.target,
            "hardware": {"achieved": {each.share: each.value for each in self.shares}},
            "sources": {f"hardware.achieved.{each.share}": each.source for each in self.shares},
        }


def correct(
    target: str, records: Iterable[Mapping[str, Any]], folders: Sequence[Path] = ()
) -> Correction:
    """Return the corrected shares of a target; `folders` are bundles that records are of.

    Raises UsageError where no record tells one.
    """
    profile = load(target)
    correction = Correction(target)
    samples = _samples(profile, records, folders, correction.passed_over)
    correction.shares = _shares(profile, samples)
    if not correction.shares:
        left_out = [f"{count} {words}" for words, count in correction.passed_over.items()]
        raise UsageError(
            f"No record tells a rate of {target}",
            why="; ".join(left_out) or "no device of that target was measured",
            next=f"edgeward bench BUNDLE --on DEVICE, of a {target}",
        )
    return correction


def _samples(
    profile: Profile,
    records: Iterable[Mapping[str, Any]],
    folders: Sequence[Path],
    passed_over: Counter[str],
) -> list[Measured]:
    here = {bundle.digest: bundle for bundle in map(_opened, folders)}
    found = []
    for record in records:
        if record.get("device") is None or record.get("device_target") != profile.name:
            continue
        bundle = here.get(str(record["bundle_digest"])) or _bundle_of(record)
        facts = facts_of(bundle) if bundle else None
        if words := _unfit(record, profile):
            passed_over[words] += 1
        elif bundle is None or facts is None:
            passed_over["of bundles that are not here (--bundle FOLDER)"] += 1
        else:
            found.append(Measured(record, bundle, facts))
    return found


def _unfit(record: Mapping[str, Any], profile: Profile) -> str:
    if not record.get("valid") or record.get("noisy"):
        return "noisy or not valid"
    if record.get("scenario") != "SingleStream":
        return "of other scenarios than SingleStream"
    if record.get("n_threads") not in (0, profile.hardware.cores):
        return "with other threads than the device has cores"
    return ""


def _bundle_of(record: Mapping[str, Any]) -> Bundle | None:
    """The folder that the record was ordered with, where it still holds that bundle."""
    folder = record.get("bundle_folder")
    try:
        bundle = open_bundle(str(folder), check="sizes") if folder else None
    except EdgewardError:
        return None
    return bundle if bundle and bundle.digest == record["bundle_digest"] else None


def _opened(folder: Path) -> Bundle:
    return open_bundle(folder, check="sizes")


def _shares(profile: Profile, samples: Sequence[Measured]) -> list[Corrected]:
    telling = {share: _telling(share, profile, samples) for share in SHARES}
    fitted = profile
    for _ in range(_ROUNDS):
        for share, told in telling.items():
            value = _share(share, fitted, told)
            fitted = fitted if value is None else with_share(fitted, share, value)
    return [
        Corrected(
            share,
            _rounded(fitted.hardware.achieved[share]),
            [each.record for each in told],
            _error(profile, told, share),
            _error(fitted, told, share),
        )
        for share, told in telling.items()
        if _share(share, fitted, told) is not None
    ]


def _telling(share: str, profile: Profile, samples: Sequence[Measured]) -> list[Measured]:
    """Those whose figure moves with the share."""
    slow, fast = with_share(profile, share, 0.05), with_share(profile, share, 1.0)
    found = []
    for each in samples:
        one, other = each.off(slow, SHARES[share]), each.off(fast, SHARES[share])
        if one is not None and other is not None and one - other > _LEAST_MOVED:
            found.append(each)
    return found


def _share(share: str, profile: Profile, told: Sequence[Measured]) -> float | None:
    """Return the share at which the median record is planned as measured; None where none is."""

    def off(value: float) -> float:
        return _median(with_share(profile, share, value), told, SHARES[share])

    return _root(off, LEAST, MOST) if told else None


def _root(falling: Callable[[float], float], least: float, most: float) -> float | None:
    if falling(least) < 0 or falling(most) > 0:
        return None
    low, high = math.log(least), math.log(most)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(math.exp(middle)) > 0 else (low, middle)
    return math.exp((low + high) / 2)


def with_share(profile: Profile, share: str, value: float) -> Profile:
    """Return a profile that reaches this share of its bandwidth or of its rates."""
    achieved = {**profile.hardware.achieved, share: value}
    return replace(profile, hardware=replace(profile.hardware, achieved=achieved))


def _median(profile: Profile, told: Sequence[Measured], figures: Sequence[str]) -> float:
    offs = (each.off(profile, figures) for each in told)
    return statistics.median(off for off in offs if off is not None)


def _error(profile: Profile, told: Sequence[Measured], share: str) -> float:
    return 100 * (math.exp(_median(profile, told, SHARES[share])) - 1)


def _rounded(value: float) -> float:
    return min(MOST, max(LEAST, float(f"{value:.3g}")))
