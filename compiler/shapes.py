"""Which shapes a bundle's graphs have: what is asked for, what the target wants, what a model has.

Pure rules; nothing here opens a graph.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeward.errors import UnsupportedError, UsageError
from edgeward.runtimes.tasks.tokens import token_limit
from edgeward.targets.profile import Profile

from .source import Source
from .tasks import task_spec

Sizes = tuple[int, ...]
BATCH, SEQUENCE, SAMPLES = "batch", "sequence", "samples"
TEXTS, IMAGES = "texts", "images"
ROWS = (BATCH, TEXTS, IMAGES)
FORMATS = ("onnx", "tflite", "coreml")
# What is made where neither the user nor the target says: these formats are planned ahead.
_PLANNED: Mapping[str, Sizes] = {BATCH: (1,), SEQUENCE: (128,), SAMPLES: (80_000,)}
DEFAULTS: Mapping[str, Mapping[str, Sizes]] = {"tflite": _PLANNED, "coreml": _PLANNED}
_HEARS_FRAMES = ("audio-spectrogram-transformer",)
MOST_GRAPHS = 32
_LARGEST = 10**7
_AXIS = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_HOW = "edgeward compile … --shapes batch=1,sequence=128|256"


@dataclass(frozen=True, slots=True)
class FixedShapes:
    """The sizes of each axis; every combination of them is a graph. Without axes: dynamic."""

    axes: tuple[tuple[str, Sizes], ...] = ()

    def __bool__(self) -> bool:
        """Whether shapes are fixed."""
        return bool(self.axes)

    def __str__(self) -> str:
        """Write it as it is typed."""
        return ",".join(f"{axis}={'|'.join(map(str, sizes))}" for axis, sizes in self.axes)

    def buckets(self) -> list[dict[str, int]]:
        """Return every combination, the largest first."""
        names = [axis for axis, _ in self.axes]
        combined = itertools.product(*(sorted(sizes, reverse=True) for _, sizes in self.axes))
        return [dict(zip(names, sizes, strict=True)) for sizes in combined] if names else []


DYNAMIC = FixedShapes()


def parse_shapes(text: str) -> dict[str, Sizes]:
    """Read `batch=1,sequence=128|256`; UsageError where it is not written so."""
    found: dict[str, Sizes] = {}
    for part in text.split(","):
        axis, equals, sizes = (word.strip() for word in part.partition("="))
        if not equals or not _AXIS.fullmatch(axis):
            raise _unreadable(f"{part.strip()[:60]!r} is not AXIS=SIZE")
        if axis in found:
            raise _unreadable(f"{axis} is given twice")
        found[axis] = tuple(sorted({_size(axis, word) for word in sizes.split("|")}))
    return found


def shapes_for(
    source: Source, profile: Profile, format_name: str, given: Mapping[str, Sizes] | None
) -> FixedShapes:
    """Return the shapes of one bundle: those given, else those that the target wants.

    Raises UsageError for an axis or a size that the model does not have, UnsupportedError where
    the target takes other sizes or the model cannot have fixed shapes.
    """
    planned = DEFAULTS.get(format_name, {})
    if planned and not given and task_spec(source.task).generates:
        return DYNAMIC
    fixed_by_target = profile.shapes.mode != "dynamic"
    wanted = {**planned, **(profile.shapes.allowed if fixed_by_target else {})}
    if not given and not wanted:
        return DYNAMIC
    _refuse_what_cannot_be(source, format_name)
    axes = axes_of(source)
    if given:
        _refuse_unknown(given, axes)
        _refuse_others(given, profile, profile.shapes.allowed if fixed_by_target else {})
        _refuse_too_long(given, source.folder)
        chosen = {**_known(wanted, axes, source.folder), **given}
    else:
        chosen = _known(wanted, axes, source.folder)
    lacking = [axis for axis in axes if axis not in chosen and axis not in ROWS]
    if lacking:
        raise UsageError(
            f"Fixed shapes need a size for {lacking[0]}",
            why="given" + (f" by {profile.name}" if not given else "") + f": {', '.join(chosen)}",
            next=f"edgeward compile … --shapes {lacking[0]}=128",
        )
    fixed = FixedShapes(tuple((axis, chosen.get(axis, (1,))) for axis in axes))
    graphs = math.prod(len(sizes) for _, sizes in fixed.axes)
    if graphs > MOST_GRAPHS:
        raise UsageError(
            f"{fixed} would be {graphs} graphs", why=f"a bundle has at most {MOST_GRAPHS}"
        )
    return fixed


def axes_of(source: Source) -> tuple[str, ...]:
    """Return the axes that a model's inputs may vary along, from its configuration alone."""
    modality = task_spec(source.task).modality
    if modality in ("text", "text-pair"):
        return (BATCH, SEQUENCE)
    if modality == "image-text":
        padded_to_the_end = source.model_type.startswith("siglip")
        return (TEXTS, IMAGES) if padded_to_the_end else (TEXTS, SEQUENCE, IMAGES)
    if modality == "audio" and source.model_type not in _HEARS_FRAMES:
        return (BATCH, SAMPLES)
    return (BATCH,)


def stem_of(sizes: Mapping[str, int]) -> str:
    """Return what a graph's file is called by its sizes."""
    return "_".join(f"{axis}{size}" for axis, size in sizes.items())


def _size(axis: str, word: str) -> int:
    if not re.fullmatch(r"[0-9]{1,8}", word.strip()) or not 1 <= int(word) <= _LARGEST:
        raise _unreadable(f"{axis} has no size {word.strip()[:20]!r}: one is 1 to {_LARGEST}")
    return int(word)


def _unreadable(why: str) -> UsageError:
    return UsageError("--shapes cannot be read", why=why, next=_HOW)


def _refuse_what_cannot_be(source: Source, format_name: str) -> None:
    spec = task_spec(source.task)
    if format_name not in FORMATS:
        why = f"fixed shapes are for {', '.join(FORMATS)}"
        raise UnsupportedError(f"{format_name} has no fixed shapes", why=why)
    if spec.generates:
        raise UnsupportedError(
            f"{spec.name} has no fixed shapes",
            why="its cache grows with every token; models that embed, classify, tag, answer, "
            "fill gaps, see or hear can have them",
        )


def _refuse_unknown(given: Mapping[str, Sizes], axes: Sequence[str]) -> None:
    for axis in given:
        if axis not in axes:
            raise UsageError(
                f"This model has no axis {axis!r}",
                why=f"its axes are {', '.join(axes)}",
                next="edgeward compile … --shapes " + ",".join(f"{axis}=1" for axis in axes[:1]),
            )


def _refuse_others(
    given: Mapping[str, Sizes], profile: Profile, wanted: Mapping[str, Sizes]
) -> None:
    for axis, sizes in given.items():
        if axis in wanted and not set(sizes) <= set(wanted[axis]):
            raise UnsupportedError(
                f"{profile.name} does not take {axis}={'|'.join(map(str, sizes))}",
                why=f"its sizes are {', '.join(map(str, wanted[axis]))}",
                next=f"edgeward targets show {profile.name}",
            )


def _refuse_too_long(given: Mapping[str, Sizes], folder: Path) -> None:
    limit, longest = token_limit(folder), max(given.get(SEQUENCE, (0,)))
    if limit is not None and longest > limit:
        raise UsageError(
            f"The model has no sequence of {longest}", why=f"it reads at most {limit} tokens"
        )


def _known(wanted: Mapping[str, Sizes], axes: Sequence[str], folder: Path) -> dict[str, Sizes]:
    """What a target wants of this model: a target speaks of every model's axes and lengths."""
    limit = token_limit(folder)
    return {
        axis: tuple(sorted({_cut(size, limit) if axis == SEQUENCE else size for size in sizes}))
        for axis, sizes in wanted.items()
        if axis in axes
    }


def _cut(size: int, limit: int | None) -> int:
    return size if limit is None else min(size, limit)
