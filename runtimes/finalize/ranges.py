"""How far each dynamic axis may go: what TensorRT calls an optimisation profile."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeward.errors import UsageError
from edgeward.runtimes.bundle.manifest import TensorSpec

MAX_LENGTH = 2**31 - 1
_ENTRY = re.compile(r"([A-Za-z0-9_.+ -]{1,100})=([0-9]{1,10}):([0-9]{1,10}):([0-9]{1,10})")
# trtexec parts its shapes by these, and takes * for a wildcard.
_NAME = re.compile(r"[^:,*'\"\s]{1,200}")


@dataclass(frozen=True, slots=True)
class Range:
    """One axis: its least, its usual and its largest length."""

    least: int
    usual: int
    most: int

    def __str__(self) -> str:
        """Return it as `parse_ranges` reads it."""
        return f"{self.least}:{self.usual}:{self.most}"


@dataclass(frozen=True, slots=True)
class InputShapes:
    """One input of the graph at the three ends; equal where nothing in it is dynamic."""

    name: str
    least: tuple[int, ...]
    usual: tuple[int, ...]
    most: tuple[int, ...]

    @property
    def is_dynamic(self) -> bool:
        """Whether its shape varies."""
        return self.least != self.most


def parse_ranges(text: str) -> dict[str, Range]:
    """Return the ranges in `batch=1:1:32,sequence=1:128:512`; UsageError where it is none."""
    ranges: dict[str, Range] = {}
    for part in filter(None, text.split(",")):
        found = _ENTRY.fullmatch(part.strip())
        if found is None:
            raise UsageError(
                f"{part[:100]!r} is no range of an axis",
                why="it looks like sequence=1:128:512: least, usual, largest",
            )
        ends = Range(*map(int, found.groups()[1:]))
        if not ends.least <= ends.usual <= ends.most <= MAX_LENGTH or ends.most < 1:
            raise UsageError(f"{part[:100]!r} is no range of an axis", why="its ends do not grow")
        ranges[found[1]] = ends
    return ranges


def format_ranges(ranges: Mapping[str, Range]) -> str:
    """Return ranges as `parse_ranges` reads them."""
    return ",".join(f"{name}={ends}" for name, ends in ranges.items())


def input_shapes(
    inputs: Sequence[TensorSpec], ranges: Mapping[str, Range]
) -> tuple[InputShapes, ...]:
    """Return every input's shapes; UsageError where an axis has no range."""
    return tuple(_shapes(spec, ranges) for spec in inputs)


def _shapes(spec: TensorSpec, ranges: Mapping[str, Range]) -> InputShapes:
    if not _NAME.fullmatch(spec.name):
        raise UsageError(
            f"The input {spec.name!r} cannot be built with TensorRT",
            why="its name has a character that parts shapes: one of : , * or a space",
        )
    axes = [_axis(spec, axis, ranges) for axis in spec.shape]
    return InputShapes(
        spec.name,
        tuple(axis.least for axis in axes),
        tuple(axis.usual for axis in axes),
        tuple(axis.most for axis in axes),
    )


def _axis(spec: TensorSpec, axis: int | str, ranges: Mapping[str, Range]) -> Range:
    if isinstance(axis, int):
        return Range(axis, axis, axis)
    if axis not in ranges:
        raise UsageError(
            f"Nothing says how long {axis} of {spec.name} may be",
            why="an engine is built for a range of every dynamic axis",
            next=f"edgeward compile … --range '{axis}=1:8:64'",
        )
    return ranges[axis]
