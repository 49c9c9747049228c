"""The class of each pixel of pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import UsageError
from edgeward.runtimes.session import Session
from edgeward.runtimes.tasks.pictures import open_picture
from edgeward.targets.evaluation.cases import REGIONS, Case, Found, Settings, Work
from edgeward.targets.evaluation.columns import Columns
from edgeward.targets.evaluation.table import Table

# What data sets paint where no class is wanted: the last number of a byte.
IGNORED = 255


def work(folder: Path, table: Table, settings: Settings) -> Work:
    """Return the cases of `image` and `mask`, a picture whose pixels are the classes' numbers."""
    del folder
    columns = Columns(table, settings.columns)
    image, mask = columns.need("image"), columns.need("mask")
    pairs = [(columns.file(row, image), columns.file(row, mask)) for row in table.rows]
    columns.problems.check()
    cases = tuple(
        Case(row.line, {"image": str(picture)}, str(painted))
        for row, (picture, painted) in zip(table.rows, pairs, strict=True)
    )
    return Work(REGIONS, ("iou", "pixel-accuracy"), cases, _run)


def read_mask(path: str) -> NDArray[np.int64]:
    """Return the numbers that a mask is painted with (height, width).

    Raises UsageError where it is a picture of colours.
    """
    painted = open_picture(path, None)
    if painted.mode not in ("L", "P", "I", "I;16", "1"):
        raise UsageError(
            f"{path} is no mask",
            why=f"its pixels are of {painted.mode}, a class's number is wanted",
        )
    return np.asarray(painted).astype(np.int64)


def _run(session: Session, cases: Sequence[Case]) -> Iterator[Found]:
    for case in cases:
        seen, wanted = session.segment(case.given["image"]), read_mask(case.wanted)
        if wanted.shape != seen.classes.shape:
            raise UsageError(
                f"{case.wanted} is not of its picture's size",
                why=f"{wanted.shape} and {seen.classes.shape}, height and width",
            )
        known = wanted != IGNORED
        if wanted[known].size and wanted[known].max() >= len(seen.labels):
            raise UsageError(
                f"{case.wanted} has a class that the model does not know",
                why=f"{wanted[known].max()}; it knows 0 to {len(seen.labels) - 1}",
            )
        yield {REGIONS: _counted(seen.classes[known], wanted[known], seen.labels)}


def _counted(
    found: NDArray[np.int32], wanted: NDArray[np.int64], names: Sequence[str]
) -> dict[str, list[int]]:
    """Pixels that are right, found and wanted, of each class that has any."""
    size = len(names)
    right = np.bincount(wanted[found == wanted], minlength=size)
    columns = (right, np.bincount(found, minlength=size), np.bincount(wanted, minlength=size))
    counts = np.stack(columns, axis=1)
    return {_key(number, names): row.tolist() for number, row in enumerate(counts) if row.any()}


def _key(number: int, names: Sequence[str]) -> str:
    """A class's name; with its number where two have the same."""
    return names[number] if names.count(names[number]) == 1 else f"{names[number]} ({number})"
