"""Objects in pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeward.runtimes.session import Session
from edgeward.runtimes.tasks.labels import read_config, read_labels
from edgeward.targets.evaluation.cases import BOXES, Case, Found, Settings, Work
from edgeward.targets.evaluation.columns import Columns, known_labels
from edgeward.targets.evaluation.table import Row, Table

# COCO's own metrics look at the hundred surest of a picture.
MOST_FOUND = 100
MOST_WANTED = 10_000
_FARTHEST = 1e9
_EDGES = ("xmin", "ymin", "xmax", "ymax")
_CLASSES = ("label", "category", "categories", "labels")
Box = tuple[float, float, float, float]


def work(folder: Path, table: Table, settings: Settings) -> Work:
    """Return the cases of `image` and `objects`, each with its class and its box."""
    columns = Columns(table, settings.columns)
    image, objects = columns.need("image"), columns.need("objects")
    files = [columns.file(row, image) for row in table.rows]
    told = [_objects(columns, row, objects) for row in table.rows]
    rows = zip(table.rows, told, strict=True)
    lines = [(row.line, label) for row, some in rows for label, *_ in some]
    names = iter(known_labels(columns, lines, read_labels(read_config(folder))))
    columns.problems.check()
    cases = tuple(
        Case(row.line, {"image": str(file)}, tuple((next(names), *rest) for _, *rest in some))
        for row, file, some in zip(table.rows, files, told, strict=True)
    )
    return Work(BOXES, ("map", "map-50"), cases, _run)


def _objects(
    columns: Columns, row: Row, column: str
) -> list[tuple[str, float, float, float, float, bool]]:
    """A class, left, top, width, height of each object, and whether it is a crowd of them."""
    listed = _listed(row.values.get(column))
    if listed is None or len(listed) > MOST_WANTED:
        columns.problems.add(row.line, f"{column} is no list of at most {MOST_WANTED} objects")
        return []
    found = []
    for number, each in enumerate(listed, 1):
        label, box = _label(each), _box(each)
        if label is None or box is None:
            columns.problems.add(
                row.line,
                f"{column}: object {number} has no "
                + ("label" if label is None else "bbox of [left, top, width, height] in pixels"),
            )
            continue
        found.append((label, *box, each.get("iscrowd") in (1, True)))
    return found


def _listed(value: object) -> list[Mapping[str, Any]] | None:
    """Objects one by one; data sets list them so, or what all of them have in turn."""
    if isinstance(value, Mapping):
        columns = {name: cells for name, cells in value.items() if isinstance(cells, list)}
        if len({len(cells) for cells in columns.values()}) != 1:
            return None
        rows = zip(*columns.values(), strict=True)
        return [dict(zip(columns, cells, strict=True)) for cells in rows]
    if isinstance(value, list) and all(isinstance(each, Mapping) for each in value):
        return list(value)
    return None


def _label(each: Mapping[str, Any]) -> str | None:
    value = next((each[name] for name in _CLASSES if name in each), None)
    if type(value) is int:
        return str(value)
    return value.strip() or None if isinstance(value, str) else None


def _box(each: Mapping[str, Any]) -> Box | None:
    """COCO's `bbox`, or the corners that transformers' pipelines tell as `box`."""
    box, corners = each.get("bbox"), each.get("box")
    if isinstance(corners, Mapping):
        left, top, right, bottom = (_number(corners.get(edge)) for edge in _EDGES)
        numbers = [left, top, right - left, bottom - top]
    elif isinstance(box, list) and len(box) == len(_EDGES):
        numbers = [_number(one) for one in box]
    else:
        return None
    left, top, width, height = numbers
    is_box = all(map(math.isfinite, numbers)) and width > 0 and height > 0
    return (left, top, width, height) if is_box else None


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    return float(value) if abs(value) < _FARTHEST else math.nan


def _run(session: Session, cases: Sequence[Case]) -> Iterator[Found]:
    for case in cases:
        found = session.detect(case.given["image"], threshold=0.0)[:MOST_FOUND]
        yield {
            BOXES: [
                [one.label, left, top, right - left, bottom - top, one.score]
                for one in found
                for left, top, right, bottom in [one.box]
            ]
        }
