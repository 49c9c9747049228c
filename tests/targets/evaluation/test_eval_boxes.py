"""Objects and regions in pictures: COCO's precision, overlap of pixels, rows of every kind."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eval_kit import edgeward_eval, lines, outcomes, value
from PIL import Image
from sklearn.metrics import jaccard_score
from task_bundles import painter, watcher

from edgeward.errors import UsageError
from edgeward.runtimes.bundle.read import Bundle
from edgeward.targets.evaluation.cases import BOXES, Settings
from edgeward.targets.evaluation.metrics.registry import make_metric
from edgeward.targets.evaluation.table import read_table
from edgeward.targets.evaluation.tasks.registry import open_work

pytest.importorskip("pycocotools", reason="of the extra `eval`, as the other metric libraries")
RED, GREEN, BLUE, GREY = (250, 0, 0), (0, 250, 0), (0, 0, 250), (100, 100, 100)
Pairs = list[tuple[list[list[Any]], list[list[Any]]]]


@pytest.fixture(scope="module")
def sees(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return watcher(tmp_path_factory.mktemp("sees") / "watcher")


@pytest.fixture(scope="module")
def paints(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return painter(tmp_path_factory.mktemp("paints") / "painter")


def halves(path: Path, left: Sequence[int], right: Sequence[int]) -> str:
    """A picture of 40 by 20 pixels."""
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :20], pixels[:, 20:] = left, right
    Image.fromarray(pixels).save(path)
    return path.name


def box(label: str, left: float, width: float = 10, *more: object) -> list[Any]:
    return [label, left, 0.0, width, 10.0, *more]


def wanted(label: str, left: float, width: float = 10, crowd: bool = False) -> list[Any]:
    return box(label, left, width, crowd)


def found(label: str, left: float, score: float, width: float = 10) -> list[Any]:
    return box(label, left, width, score)


def test_what_is_found_whole_is_one_and_what_is_not_is_none() -> None:
    right: Pairs = [([wanted("cat", 0)], [found("cat", 0, 0.9)])]
    assert value("map", BOXES, right) == pytest.approx(1.0)
    assert value("map", BOXES, [([wanted("cat", 0)], [found("dog", 0, 0.9)])]) == 0
    assert value("map", BOXES, [([wanted("cat", 0)], [])]) == 0
    assert np.isnan(value("map", BOXES, [([], [])]))
    assert np.isnan(value("map", BOXES, [([], [found("cat", 0, 0.9)])]))


@pytest.mark.parametrize(("apart", "overlap"), [(2, 8 / 12), (1, 9 / 11), (3, 7 / 13), (6, 4 / 16)])
def test_thresholds_are_those_of_the_overlap(apart: float, overlap: float) -> None:
    pairs: Pairs = [([wanted("cat", 0)], [found("cat", apart, 0.9)])]
    reached = [threshold <= overlap for threshold in np.arange(0.5, 0.96, 0.05)]
    assert value("map", BOXES, pairs) == pytest.approx(np.mean(reached))
    assert value("map-50", BOXES, pairs) == pytest.approx(float(overlap >= 0.5))
    assert value("map-75", BOXES, pairs) == pytest.approx(float(overlap >= 0.75))


def test_precision_is_averaged_over_recalls() -> None:
    """Of two wanted the second comes behind a wrong one: 1 to recall 0.5, then 2/3."""
    pairs: Pairs = [
        (
            [wanted("cat", 0), wanted("cat", 100)],
            [found("cat", 0, 0.9), found("cat", 50, 0.8), found("cat", 100, 0.7)],
        )
    ]
    assert value("map", BOXES, pairs) == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)


def test_classes_weigh_alike_and_each_has_its_own() -> None:
    pairs: Pairs = [
        ([wanted("cat", 0), wanted("dog", 50)], [found("cat", 0, 0.9), found("bird", 9, 0.9)])
    ]
    metric = make_metric("map", BOXES)
    scores = metric.scores(outcomes(BOXES, pairs))
    assert metric.value(scores.rows) == pytest.approx(0.5)
    parts = metric.parts(scores)
    assert (parts["cat"], parts["dog"]) == (pytest.approx(1.0), 0)
    assert np.isnan(parts["bird"])


def test_a_crowd_is_neither_wanted_nor_wrong() -> None:
    pairs: Pairs = [
        (
            [wanted("cat", 0), wanted("cat", 100, 50, crowd=True)],
            [found("cat", 100, 0.9), found("cat", 120, 0.8), found("cat", 0, 0.5)],
        )
    ]
    assert value("map", BOXES, pairs) == pytest.approx(1.0)


def made_up(pictures: int, seed: int) -> Pairs:
    draw = np.random.default_rng(seed)
    pairs: Pairs = []
    for _ in range(pictures):
        here = [
            wanted(str(draw.choice(["a", "b", "c"])), float(left), crowd=bool(draw.random() < 0.2))
            for left in draw.integers(0, 80, draw.integers(0, 5))
        ]
        seen = [
            found(one[0], one[1] + float(draw.normal(0, 2)), float(draw.random()))
            for one in here
            if draw.random() < 0.8
        ]
        seen += [
            found(str(draw.choice(["a", "b", "d"])), float(left), float(draw.random()))
            for left in draw.integers(0, 80, draw.integers(0, 4))
        ]
        pairs.append((here, seen))
    return pairs


@pytest.mark.parametrize("name", ["map", "map-50", "map-75"])
def test_draws_have_the_value_of_the_library(name: str) -> None:
    metric = make_metric(name, BOXES)
    assert metric.again is not None
    draw = np.random.default_rng(1)
    for seed in range(2):
        rows = metric.scores(outcomes(BOXES, made_up(12, seed))).rows
        assert metric.again(rows) == pytest.approx(metric.value(rows))
        for _ in range(3):
            drawn = rows[draw.integers(0, len(rows), len(rows))]
            assert metric.again(drawn) == pytest.approx(metric.value(drawn))


def test_pictures_of_a_bundle_are_evaluated(sees: Bundle, tmp_path: Path) -> None:
    left, right = [0, 0, 20, 20], [20, 0, 20, 20]
    rows = [
        {
            "image": halves(tmp_path / "1.png", RED, BLUE),
            "objects": [{"label": "red", "bbox": left}, {"category": 2, "bbox": right}],
        },
        {
            "image": halves(tmp_path / "2.png", GREY, GREEN),
            "objects": {"bbox": [right], "categories": ["green"]},
        },
        {
            "image": halves(tmp_path / "3.png", GREEN, GREY),
            "objects": [{"label": "red", "box": {"xmin": 0, "ymin": 0, "xmax": 20, "ymax": 20}}],
        },
        {"image": halves(tmp_path / "4.png", GREY, GREY), "objects": []},
    ]
    data = lines(tmp_path / "data.jsonl", rows)
    done = edgeward_eval(sees.path, "--data", data, "-m", "map,map-50,map-75", "-o", "json")
    assert done.returncode == 2, "2 is a number and no name"
    corners = {"xmin": 20, "ymin": 0, "xmax": 40, "ymax": 20}
    rows[0]["objects"] = [{"label": "red", "bbox": left}, {"category": "blue", "box": corners}]
    done = edgeward_eval(
        sees.path, "--data", lines(data, rows), "--against", sees.path, "--resamples", "20",
        "--fail-under", "map-50=0.9", "-o", "json",
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    figures = {one["metric"]: one for one in json.loads(done.stdout)["figures"]}
    assert figures["map[blue]"]["value"] == pytest.approx(1.0)
    # A red half is wanted where green is, which is found after the red one and before greys.
    assert figures["map"]["value"] == pytest.approx(np.mean([1.0, 1.0, 51 / 101]), abs=1e-3)
    assert figures["map"]["difference"] == 0
    assert figures["map"]["low"] <= figures["map"]["value"] <= figures["map"]["high"]


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        ("none", "is no list"),
        ([1], "is no list"),
        ({"bbox": [[0, 0, 1, 1]], "label": []}, "is no list"),
        ([{"bbox": [0, 0, 1, 1]}], "object 1 has no label"),
        ([{"label": "red"}], "object 1 has no bbox"),
        ([{"label": "red", "bbox": [0, 0, 1]}], "object 1 has no bbox"),
        ([{"label": "red", "bbox": [0, 0, 0, 1]}], "object 1 has no bbox"),
        ([{"label": "red", "bbox": [0, 0, 1, float("nan")]}], "object 1 has no bbox"),
        ([{"label": "red", "bbox": [0, 0, 1, True]}], "object 1 has no bbox"),
        ([{"label": "red", "box": {"xmin": 4, "ymin": 0, "xmax": 2}}], "object 1 has no bbox"),
        ([{"label": "pink", "bbox": [0, 0, 1, 1]}], "the model has no class 'pink'"),
    ],
)
def test_wrong_objects_are_told_with_their_line(
    sees: Bundle, tmp_path: Path, objects: object, words: str
) -> None:
    row = {"image": halves(tmp_path / "1.png", RED, BLUE), "objects": objects}
    data = lines(tmp_path / "data.jsonl", [row])
    with pytest.raises(UsageError) as told:
        open_work(sees, read_table(data), Settings({}))
    assert re.search(rf"line 1: (objects:? )?{words}", str(told.value))


def mask(path: Path, classes: np.ndarray[Any, Any]) -> str:
    Image.fromarray(classes.astype(np.uint8)).save(path)
    return path.name


def test_regions_are_counted_by_pixels(paints: Bundle, tmp_path: Path) -> None:
    wants = np.zeros((20, 40), int)
    wants[:, 20:] = 2
    wants[:5] = 1
    wants[19] = 255
    rows = [
        {"image": halves(tmp_path / "1.png", RED, BLUE), "mask": mask(tmp_path / "m.png", wants)}
    ]
    done = edgeward_eval(
        paints.path, "--data", lines(tmp_path / "data.jsonl", rows), "-o", "json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = {one["metric"]: one["value"] for one in json.loads(done.stdout)["figures"]}
    sees = np.where(np.arange(40) < 20, 0, 2)[None].repeat(20, axis=0)
    known = wants != 255
    each = jaccard_score(wants[known], sees[known], average=None, labels=[0, 1, 2])
    assert [figures[f"iou[{name}]"] for name in ("red", "green", "blue")] == pytest.approx(each)
    assert figures["iou"] == pytest.approx(np.mean(each))
    assert figures["pixel-accuracy"] == pytest.approx((wants == sees)[known].mean())


@pytest.mark.parametrize(
    ("painted", "words"),
    [
        (np.zeros((8, 8), int), "not of its picture's size"),
        (np.full((20, 40), 3), "has a class that the model does not know"),
        (np.zeros((20, 40, 3), int), "is no mask"),
    ],
)
def test_a_mask_that_does_not_belong_is_told(
    paints: Bundle, tmp_path: Path, painted: Any, words: str
) -> None:
    row: Mapping[str, str] = {
        "image": halves(tmp_path / "1.png", RED, BLUE),
        "mask": mask(tmp_path / "m.png", painted),
    }
    done = edgeward_eval(paints.path, "--data", lines(tmp_path / "data.jsonl", [row]))
    assert done.returncode == 2
    assert words in done.stderr
