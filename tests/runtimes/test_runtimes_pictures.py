"""Pictures to pixels, and what comes back to the picture: classes, boxes, maps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image

from edgeward.errors import EngineError, UnsupportedError, UsageError
from edgeward.runtimes.bundle.manifest import EngineRef
from edgeward.runtimes.engines.base import EngineOptions, Tensor
from edgeward.runtimes.engines.onnxruntime import open_model
from edgeward.runtimes.tasks.picture_tasks import (
    DepthEstimator,
    Detector,
    PictureClassifier,
    Segmenter,
)
from edgeward.runtimes.tasks.pictures import Pictures, open_picture, read_picture_settings

LABELS = {"id2label": {"0": "cat", "1": "dog", "2": "gate"}}


class Answers:
    """An engine that says what it was told, whatever picture comes in."""

    ref = EngineRef(name="scripted", version="1")

    def __init__(self, **outputs: Any) -> None:
        self.inputs, self.outputs = ["pixel_values"], list(outputs)
        self.parts: dict[str, Any] = {}
        self._outputs = outputs
        self.seen: list[Tensor] = []

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once."""
        return dict(zip(self.outputs, self.run_prepared(inputs, self.outputs), strict=True))

    def run_prepared(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Answer."""
        self.seen.append(inputs["pixel_values"])
        return [np.asarray(self._outputs[name], np.float32) for name in outputs]


def fed(folder: Path, stated: Mapping[str, Any], sides: tuple[Any, Any], channels: int = 3) -> Any:
    """Pictures for a real graph of these sides."""
    (folder / "preprocessor_config.json").write_text(json.dumps(stated))
    shape = ["batch", channels, *sides]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["pixel_values"], ["out"])],
        "fed",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / "fed.onnx")
    return Pictures(folder, open_model(folder / "fed.onnx", EngineOptions(threads=1)))


def scene(height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    rows, columns = np.mgrid[:height, :width]
    red, green = rows * 255 // max(height - 1, 1), columns * 255 // max(width - 1, 1)
    return np.stack([red, green, (red + green) // 2], axis=2).astype(np.uint8)


def named(folder: Path) -> Path:
    (folder / "config.json").write_text(json.dumps(LABELS))
    (folder / "preprocessor_config.json").write_text("{}")
    return folder


def test_pixels_are_scaled_and_normalised(tmp_path: Path) -> None:
    stated = {"size": {"height": 4, "width": 6}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    picture = scene(4, 6)
    pixels, sides = fed(tmp_path, stated, (4, 6))(picture)
    assert (pixels.shape, pixels.dtype, sides) == ((1, 3, 4, 6), np.float32, (4, 6))
    assert np.allclose(pixels[0].transpose(1, 2, 0), (picture / 255 - 0.5) / 0.25, atol=1e-6)
    turned = fed(tmp_path, {**stated, "do_flip_channel_order": True}, (4, 6))(picture)[0]
    assert np.allclose(turned[0, 0], (picture[..., 2] / 255 - 0.5) / 0.25, atol=1e-6)
    plain = {**stated, "do_rescale": False, "do_normalize": False}
    assert np.array_equal(fed(tmp_path, plain, (4, 6))(picture)[0][0, 1], picture[..., 1])


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 90), width=st.integers(1, 90), kind=st.integers(0, 3))
def test_every_picture_gets_the_graphs_sides(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, kind: int
) -> None:
    crop = {"height": 16, "width": 20}
    stated = (
        {"size": {"height": 16, "width": 20}},
        {"size": {"shortest_edge": 24}, "do_center_crop": True, "crop_size": crop},
        {"size": {"shortest_edge": 20}, "crop_pct": 0.8},
        {"size": {"shortest_edge": 800, "longest_edge": 1333}},
    )[kind]
    pictures = fed(tmp_path_factory.mktemp("p"), stated, (16, 20))
    pixels, sides = pictures(scene(height, width))
    assert pixels.shape == (1, 3, 16, 20)
    assert sides == (height, width)
    assert np.isfinite(pixels).all()


def test_the_middle_is_cut_out(tmp_path: Path) -> None:
    stated = {
        "do_resize": False,
        "do_center_crop": True,
        "crop_size": {"height": 2, "width": 4},
        "do_normalize": False,
    }
    picture = scene(6, 8)
    pixels, _ = fed(tmp_path, stated, (2, 4))(picture)
    assert np.allclose(pixels[0].transpose(1, 2, 0) * 255, picture[2:4, 2:6], atol=1e-4)


def test_a_grey_graph_gets_one_channel(tmp_path: Path) -> None:
    stated = {"size": 5, "image_mean": 0.5, "image_std": 0.5}
    assert fed(tmp_path, stated, (5, 5), channels=1)(scene(9, 9))[0].shape == (1, 1, 5, 5)


def test_a_picture_is_turned_as_its_file_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(scene(4, 8)).save(tmp_path / "one.png", exif=exif)
    assert open_picture(tmp_path / "one.png").size == (4, 8)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    (tmp_path / "two.jpg").write_text("no picture")
    for bad in (tmp_path / "one.png", str(tmp_path / "two.jpg"), tmp_path / "none.png", tmp_path):
        with pytest.raises(UsageError, match="cannot be read as a picture"):
            open_picture(bad)
    for array in (np.zeros((2, 2), np.float32), np.zeros((0, 2, 3), np.uint8), np.zeros(3, "u1")):
        with pytest.raises(UsageError, match="array of uint8"):
            open_picture(array)
    with pytest.raises(UsageError, match="a file, an array"):
        open_picture(7)


def test_a_picture_of_too_many_pixels_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    for side in (9, 20):
        Image.fromarray(scene(side, side)).save(tmp_path / "one.png")
        with pytest.raises(UsageError, match="decompression bomb"):
            open_picture(tmp_path / "one.png")


@pytest.mark.parametrize(
    "stated",
    [
        {"size": {"height": 0, "width": 4}},
        {"size": {"shortest_edge": "24"}},
        {"size": [1, 2, 3]},
        {"size": 10**9},
        {"size": 8, "image_mean": []},
        {"size": 8, "image_std": [float("nan")] * 3},
        {"size": 8, "do_center_crop": True, "crop_size": {"height": True, "width": 3}},
    ],
)
def test_settings_that_are_none_are_refused(tmp_path: Path, stated: dict[str, Any]) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    with pytest.raises(UnsupportedError, match="not one for pictures"):
        read_picture_settings(tmp_path)


def test_classes_come_best_first(tmp_path: Path) -> None:
    engine = Answers(logits=[[0.0, 2.0, 1.0]])
    found = PictureClassifier(named(tmp_path), engine)(scene(5, 5), 2)
    assert [one.label for one in found] == ["dog", "gate"]
    assert found[0].score == pytest.approx(np.exp(2) / (1 + np.exp(2) + np.exp(1)), rel=1e-5)
    with pytest.raises(UsageError, match="top_k"):
        PictureClassifier(tmp_path, engine)(scene(5, 5), 0)


def test_boxes_are_in_the_pictures_pixels(tmp_path: Path) -> None:
    logits = [[[9.0, 0, 0, 0], [0, 0, 0, 9.0], [0, 0, 5.0, 0]]]
    boxes = [[[0.5, 0.5, 0.5, 1.0], [0.1] * 4, [0.25, 0.25, 0.1, 0.1]]]
    engine = Answers(logits=logits, pred_boxes=boxes)
    found = Detector(named(tmp_path), engine)(scene(10, 40))
    assert [one.label for one in found] == ["cat", "gate"]
    assert found[0].box == pytest.approx((10, 0, 30, 10))
    assert found[1].box == pytest.approx((8, 2, 12, 3), abs=1e-4)
    assert not Detector(tmp_path, engine)(scene(10, 40), 1.0)
    with pytest.raises(UsageError, match="threshold"):
        Detector(tmp_path, engine)(scene(10, 40), 2.0)


def test_each_pixel_gets_its_class_and_its_depth(tmp_path: Path) -> None:
    left = np.array([[1.0, 0.0], [1.0, 0.0]])
    found = Segmenter(named(tmp_path), Answers(logits=[[left, 1 - left]]))(scene(8, 16))
    assert (found.classes[:, :8] == 0).all()
    assert (found.classes[:, 8:] == 1).all()
    assert found.share("dog") == pytest.approx(0.5)
    with pytest.raises(UsageError, match="no class"):
        found.share("horse")
    depth = DepthEstimator(tmp_path, Answers(predicted_depth=[left]))(scene(8, 16))
    assert depth.shape == (8, 16)
    assert depth[0, 0] > 0.9 > 0.1 > depth[0, -1]


def test_values_that_are_not_finite_are_told(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="not finite"):
        PictureClassifier(named(tmp_path), Answers(logits=[[np.nan, 0]]))(scene(5, 5))
    other = Answers(logits=[[0.0]])
    other.inputs = ["input_ids"]
    with pytest.raises(UnsupportedError, match="reads no pictures"):
        PictureClassifier(tmp_path, other)(scene(5, 5))
