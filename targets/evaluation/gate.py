"""Thresholds: what a figure may not fall below or rise above."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edgeward.errors import UsageError

Side = Literal["under", "over"]


@dataclass(frozen=True, slots=True)
class Gate:
    """A figure's bound: it fails below it (`under`), or above it (`over`)."""

    metric: str
    side: Side
    bound: float

    def passes(self, value: float) -> bool:
        """Whether a value is on the right side; NaN never is."""
        return value >= self.bound if self.side == "under" else value <= self.bound

    def words(self) -> str:
        """Return the bound as people write it."""
        return f"{'>=' if self.side == 'under' else '<='} {self.bound:g}"


def read_gates(under: Sequence[str], over: Sequence[str]) -> tuple[Gate, ...]:
    """Read `NAME=NUMBER`; UsageError where one is not, or a name has the same side twice."""
    gates = [_gate(text, "under") for text in under] + [_gate(text, "over") for text in over]
    sides = [(gate.metric, gate.side) for gate in gates]
    if len(set(sides)) != len(sides):
        raise UsageError("A metric has the same gate twice", why=", ".join(m for m, _ in sides))
    return tuple(gates)


def check_sides(gates: Sequence[Gate], better: Mapping[str, str]) -> None:
    """Refuse gates that fail what is good; UsageError says which option was meant."""
    for gate in gates:
        wanted = {"higher": "under", "lower": "over"}.get(better.get(gate.metric, ""), gate.side)
        if wanted != gate.side:
            raise UsageError(
                f"--fail-{gate.side} {gate.metric}={gate.bound:g} would fail what is good",
                why=f"{gate.metric} is better when it is {better[gate.metric]}",
                next=f"edgeward eval … --fail-{wanted} {gate.metric}={gate.bound:g}",
            )


def _gate(text: str, side: Side) -> Gate:
    name, mark, number = text.rpartition("=")
    try:
        bound = float(number)
    except ValueError:
        bound = math.nan
    if not mark or not name or not math.isfinite(bound):
        raise UsageError(f"--fail-{side} takes METRIC=NUMBER, not {text!r}")
    return Gate(name, side, bound)
