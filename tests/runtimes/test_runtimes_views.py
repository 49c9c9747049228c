"""What a user sees of outputs: boxes, classes of pixels, depth, letters; and files in a proof."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeward.errors import IntegrityError
from edgeward.runtimes.bundle.manifest import EngineRef
from edgeward.runtimes.engines.base import Tensor
from edgeward.runtimes.proof.files import CASES_NAME, REFERENCE_NAME
from edgeward.runtimes.proof.sketch import sketch
from edgeward.runtimes.proof.tensor_files import FileSource
from edgeward.runtimes.proof.tensors import (
    TensorCase,
    TensorCases,
    read_cases,
    tensor_metrics,
    write_cases,
)
from edgeward.runtimes.proof.views import VIEWS, Boxes, ClassMap, Depth, Letters, open_view
from edgeward.runtimes.proof.words import letter_error_rate, word_error_rate


def seen(classes: Sequence[int], boxes: Sequence[Sequence[float]]) -> dict[str, Tensor]:
    """Queries that are sure of their class; the last of four is none."""
    logits = np.zeros((1, len(classes), 4), np.float32)
    logits[0, np.arange(len(classes)), classes] = 6
    return {"logits": logits, "pred_boxes": np.array([boxes], np.float32)}


ONE, TWO = (0.3, 0.3, 0.2, 0.2), (0.7, 0.6, 0.3, 0.4)


def boxes_of(original: Mapping[str, Tensor], artifact: Mapping[str, Tensor]) -> dict[str, float]:
    view = Boxes()
    view.add(view.keep(original), artifact)
    return view.metrics()


def test_boxes_are_matched_whatever_query_gives_them() -> None:
    original = seen([0, 1, 3], [ONE, TWO, ONE])
    turned = seen([3, 1, 0], [TWO, TWO, ONE])
    assert boxes_of(original, turned) == {
        "boxes_matched": 1, "boxes_iou": pytest.approx(1, abs=1e-5),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("classes", "boxes", "matched"),
    [
        ([1, 1], [ONE, TWO], 0.5),
        ([0, 1], [ONE, ONE], 0.5),
        ([0, 1], [(0.33, 0.3, 0.2, 0.2), TWO], 1),
        ([0, 0], [ONE, ONE], 0.5),
        ([3, 3], [ONE, ONE], 0),
        ([0, 1], [(np.nan,) * 4, TWO], 0),
    ],
)
def test_a_box_of_another_class_or_place_is_lost(
    classes: list[int], boxes: list[Any], matched: float
) -> None:
    found = boxes_of(seen([0, 1], [ONE, TWO]), seen(classes, boxes))
    assert found["boxes_matched"] == matched
    assert found["boxes_iou"] <= 1 + 1e-6


def test_overlap_is_intersection_over_union() -> None:
    found = boxes_of(seen([0], [(0.5, 0.5, 0.4, 0.4)]), seen([0], [(0.6, 0.5, 0.4, 0.4)]))
    assert found["boxes_iou"] == pytest.approx(0.6, abs=1e-5)


def test_the_surest_half_of_the_boxes_counts() -> None:
    outputs = seen([0, 1], [ONE, TWO])
    outputs["logits"][0, 1] *= 0.05
    assert len(Boxes().keep(outputs)) == 1


def test_each_class_weighs_the_same() -> None:
    original = np.zeros((1, 2, 10, 10), np.float32)
    original[0, 1, 0] = 1
    artifact = np.zeros_like(original)
    view = ClassMap()
    view.add(view.keep({"logits": original}), {"logits": artifact})
    assert view.metrics() == pytest.approx({"classes_iou": 0.45, "pixels_alike": 0.9})
    view.add(view.keep({"logits": original}), {"logits": artifact[..., :5]})
    assert view.metrics()["pixels_alike"] == pytest.approx(0.45)


def test_a_large_map_is_thinned() -> None:
    kept = ClassMap().keep({"logits": np.zeros((1, 3, 300, 40), np.float32)})
    assert kept.shape == (100, 40)


def test_depth_is_off_by_a_share_of_itself() -> None:
    depth = np.linspace(1, 3, 64, dtype=np.float32).reshape(1, 8, 8)
    view = Depth()
    view.add(view.keep({"predicted_depth": depth}), {"predicted_depth": depth * 1.1})
    assert view.metrics() == {"depth_error": pytest.approx(0.1, rel=1e-4)}
    view.add(view.keep({"predicted_depth": depth}), {"predicted_depth": depth * np.nan})
    assert view.metrics()["depth_error"] > 1e20


def frames(ids: Sequence[int]) -> dict[str, Tensor]:
    return {"logits": np.eye(6, dtype=np.float32)[list(ids)][None]}


def test_letters_and_words_are_counted_apart() -> None:
    view = Letters(blank=0, gap=1)
    kept = view.keep(frames([2, 2, 0, 2, 1, 3, 4, 0, 1, 5]))
    assert kept.tolist() == [2, 2, 1, 3, 4, 1, 5]
    view.add(kept, frames([2, 0, 2, 1, 3, 3, 1, 5]))
    assert view.metrics() == pytest.approx({"cer": 1 / 7, "wer": 1 / 3})
    alone = Letters(blank=0)
    assert alone.metrics() == {}
    alone.add(alone.keep(frames([2, 3])), frames([2, 3]))
    assert alone.metrics() == {"cer": 0}


def test_letters_of_a_few_words_tell_how_far_they_are() -> None:
    heard, other = "1-2-345-678910.", "1-2-34567-8910."
    assert word_error_rate([heard], [other]) == 0.5
    assert letter_error_rate([heard], [other]) == pytest.approx(2 / 14)
    assert letter_error_rate(["a b", "", "Hello, world"], ["a b", "x", "hello world"]) == 0


def test_words_of_several_texts_are_one_share() -> None:
    assert word_error_rate(["a b", "", "c d"], ["a b", "x y z", "c"]) == 0.25


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_a_view_that_counted_nothing_says_nothing(name: str) -> None:
    view = open_view(name, {})
    assert view is not None
    assert view.metrics() == {}


class Grey:
    """An engine that gives the mean of each channel, with a fault if it is told so."""

    ref = EngineRef(name="arithmetic", version="1")
    inputs: Sequence[str] = ("pixel_values",)
    outputs: Sequence[str] = ("logits",)
    parts: Mapping[str, Any] = {}

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run."""
        return {"logits": inputs["pixel_values"].mean(axis=(2, 3))}

    def run_prepared(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Run."""
        del outputs
        return [self.run(inputs)["logits"]]


def file_case(shade: int, label: int = -1) -> TensorCase:
    """A plain picture, as transformers would prepare it."""
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 255)).save(stream, format="PNG")
    plain = np.array([shade / 255, 0, 1], np.float32) * 2 - 1
    pixels = np.broadcast_to(plain[None, :, None, None], (1, 3, 4, 4)).copy()
    outputs = {"logits": sketch(Grey().run({"pixel_values": pixels})["logits"], -1)}
    source = FileSource(stream.getvalue(), "pixel_values", sketch(pixels).values, label)
    return TensorCase(f"shade {shade}", {}, outputs, source=source)


def prepared(folder: Path, mean: float = 0.5) -> Path:
    stated = {"size": {"height": 4, "width": 4}, "image_mean": [mean] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(stated))
    return folder


def test_a_file_is_proved_from_its_bytes_to_the_output(tmp_path: Path) -> None:
    given = TensorCases((), {"logits": -1}, files=(file_case(10, 2), file_case(200, 0)))
    write_cases(tmp_path, given)
    found = read_cases(tmp_path)
    for one, other in zip(found.files, given.files, strict=True):
        assert one.source is not None and other.source is not None
        assert (one.source.content, one.source.label) == (other.source.content, other.source.label)
    same = tensor_metrics(Grey(), found, folder=prepared(tmp_path))
    assert same["pixels_difference"] < 1e-5
    assert same["files_cosine_min"] > 1 - 1e-6
    assert (same["accuracy"], same["accuracy_original"]) == (0.5, 0.5)
    other = tensor_metrics(Grey(), found, folder=prepared(tmp_path, 0.4))
    assert other["pixels_difference"] > 0.1
    assert other["files_cosine_min"] < same["files_cosine_min"]
    whole = tensor_metrics(Grey(), found, folder=tmp_path, apart=False)
    assert whole["relative_difference"] > 0.1


def test_cases_without_files_or_views_are_read_as_ever(tmp_path: Path) -> None:
    inputs = {"pixel_values": np.ones((1, 3, 4, 4), np.float32)}
    case = TensorCase("one", inputs, {"logits": sketch(Grey().run(inputs)["logits"], -1)})
    write_cases(tmp_path, TensorCases((case,), {"logits": -1}))
    document = json.loads((tmp_path / CASES_NAME).read_text())
    for name in ("view", "files"):
        del document[name]
    (tmp_path / CASES_NAME).write_text(json.dumps(document))
    found = read_cases(tmp_path)
    assert (len(found.cases), found.files, found.view) == (1, (), "")


@pytest.mark.parametrize(
    "spoil",
    [
        {"view": {"name": "stars", "settings": {}}},
        {"view": {"name": "boxes", "settings": {"blank": 0}}},
        {"view": {"name": "boxes", "settings": {}}},
        {"view": []},
        {"files": [{"name": "x", "texts": [], "feeds": "pixel_values", "label": -1}]},
        {"files": [{"name": "x", "texts": [], "feeds": "", "label": "1", "words": ""}]},
        {"files": [1]},
    ],
)
def test_damaged_files_and_views_are_told(tmp_path: Path, spoil: dict[str, Any]) -> None:
    inputs = {"pixel_values": np.ones((1, 3, 4, 4), np.float32)}
    outputs = {"logits": sketch(Grey().run(inputs)["logits"], -1)}
    case = TensorCase("one", inputs, outputs, kept=np.zeros(3, np.int32))
    write_cases(tmp_path, TensorCases((case,), {}, files=(file_case(3),), view="letters"))
    assert read_cases(tmp_path).files
    document = json.loads((tmp_path / CASES_NAME).read_text())
    (tmp_path / CASES_NAME).write_text(json.dumps({**document, **spoil}))
    with pytest.raises(IntegrityError, match="damaged"):
        read_cases(tmp_path)
    assert (tmp_path / REFERENCE_NAME).is_file()
