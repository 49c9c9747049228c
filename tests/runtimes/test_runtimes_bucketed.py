"""Graphs of fixed shapes behind one session: padded, split, cut back, in the real engine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from bundle_damage import edit_manifest
from fixed_bundle import make_fixed_bundle
from onnx import TensorProto, helper
from tiny_model import SENTENCE

from edgeward.compiler.shapes import FixedShapes
from edgeward.errors import ManifestError, UsageError
from edgeward.runtimes import load
from edgeward.runtimes.bundle.read import Bundle, open_bundle
from edgeward.runtimes.engines import onnxruntime as engine
from edgeward.runtimes.engines.base import EngineOptions, EngineSession, Tensor
from edgeward.runtimes.engines.bucketed import BucketedSession, Plan, listed, open_buckets
from edgeward.runtimes.engines.onnxruntime import OnnxRuntimeSession
from edgeward.runtimes.proof.bisect import bisect_bundles
from edgeward.runtimes.proof.golden import run_golden
from edgeward.runtimes.session import Session

SHAPES = FixedShapes((("batch", (1, 4)), ("sequence", (4, 8))))
TEXTS = ["gate", SENTENCE[:17], "the train leaves at noon", "", "noon"]
Shapes = list[tuple[int, ...]]


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_fixed_bundle(tmp_path_factory.mktemp("fixed") / "b", SHAPES)


@pytest.fixture(scope="module")
def session(fixed: Bundle) -> Session:
    return load(fixed, threads=1)


class Watched:
    """A real engine session that tells what it was given."""

    def __init__(self, inner: EngineSession) -> None:
        self.inner, self.ref, self.parts = inner, inner.ref, inner.parts
        self.inputs, self.outputs = inner.inputs, inner.outputs
        self.given: Shapes = []

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.given.append(next(iter(inputs.values())).shape)
        return self.inner.run(inputs)

    def run_prepared(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        self.given.append(next(iter(inputs.values())).shape)
        return self.inner.run_prepared(inputs, outputs)


def watched(bundle: Bundle) -> tuple[BucketedSession, Any]:
    """The bundle's graphs, each watched; and what was given to any of them since last asked."""
    manifest, options = bundle.manifest, EngineOptions(threads=1)
    one = open_buckets(engine, bundle.path, manifest, options)
    graphs = [
        (Watched(engine.open_model(bundle.path / each.path, options)), each.sizes)
        for each in manifest.buckets
    ]

    def given() -> Shapes:
        told = [shape for graph, _ in graphs for shape in graph.given]
        for graph, _ in graphs:
            graph.given.clear()
        return sorted(told)

    return BucketedSession(one._plan, graphs), given


def tokens(rows: int, length: int, seed: int = 0) -> dict[str, Any]:
    ids = np.random.default_rng(seed).integers(0, 12, (rows, length))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def test_vectors_are_those_of_the_dynamic_bundle(session: Session, tiny_bundle: Bundle) -> None:
    dynamic = load(tiny_bundle, threads=1)
    for texts in (*([text] for text in TEXTS), TEXTS, TEXTS * 3):
        np.testing.assert_allclose(session.embed(texts), dynamic.embed(texts), atol=1e-6)


def test_a_text_that_is_longer_than_every_shape_ends_as_the_tokenizer_ends_it(
    session: Session,
) -> None:
    cut = "where is gate b12 the train"
    long = session.embed_counted([f"{cut} leaves at noon"])
    assert long.tokens == 8
    np.testing.assert_allclose(long.vectors, session.embed([cut]), atol=1e-6)


@pytest.mark.parametrize(
    ("rows", "length", "wanted"),
    [
        (1, 1, [(1, 4)]),
        (1, 4, [(1, 4)]),
        (1, 5, [(1, 8)]),
        (2, 3, [(4, 4)]),
        (4, 8, [(4, 8)]),
        (5, 8, [(1, 8), (4, 8)]),
        (11, 2, [(4, 4), (4, 4), (4, 4)]),
    ],
)
def test_the_smallest_shape_that_holds_it_runs(
    fixed: Bundle, rows: int, length: int, wanted: Shapes
) -> None:
    one, given = watched(fixed)
    inputs = tokens(rows, length)
    found = one.run(inputs)["last_hidden_state"]
    assert given() == wanted
    assert found.shape == (rows, length, 8)
    alone = [one.run({n: v[r : r + 1] for n, v in inputs.items()}) for r in range(rows)]
    np.testing.assert_array_equal(found, np.concatenate([a["last_hidden_state"] for a in alone]))


def test_padding_is_the_models_and_rows_are_filled_with_the_last(fixed: Bundle) -> None:
    specs = {"input_ids": ("batch", "sequence"), "attention_mask": ("batch", "sequence")}
    plan = Plan(specs, {}, {"input_ids": 7}, {"batch": (4,), "sequence": (4,)})
    sizes = {"batch": 4, "sequence": 4}
    ids = plan.fed("input_ids", np.array([[1, 2], [3, 4]]), sizes, {"batch": (0, 2)})
    assert ids.tolist() == [[1, 2, 7, 7], [3, 4, 7, 7], [3, 4, 7, 7], [3, 4, 7, 7]]
    mask = plan.fed("attention_mask", np.ones((4, 2), np.int64), sizes, {"batch": (1, 3)})
    assert mask.tolist() == [[1, 1, 0, 0]] * 4
    assert fixed.manifest.padding == {"input_ids": 0}


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (tokens(1, 9), "sequence is 9.*at most 4, 8"),
        (tokens(0, 4), "batch is 0"),
        (tokens(1, 0), "sequence is 0"),
        ({"input_ids": np.ones((1, 4), np.int64)}, "attention_mask is missing"),
        ({**tokens(1, 4), "more": np.ones(1)}, "more is none"),
        ({**tokens(1, 4), "input_ids": np.ones((1, 3), np.int64)}, "sequence is 4|sequence is 3"),
        ({**tokens(1, 4), "input_ids": np.ones((1, 4, 1), np.int64)}, "3 dimensions"),
        ({**tokens(1, 4), "input_ids": np.ones((1, 4), np.float32)}, "do not fit"),
        ({**tokens(1, 4), "input_ids": [[1], [2, 3]]}, "input_ids"),
        ([1], "dictionary"),
    ],
)
def test_what_fits_no_shape_is_told(session: Session, inputs: Any, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        session.run(inputs)
    assert re.search(words, f"{caught.value.what} {caught.value.why}")


def test_its_golden_inputs_pass(fixed: Bundle) -> None:
    report = run_golden(fixed, threads=1)
    assert report.passed
    assert report.metrics["cosine_min"] > 0.99999


def test_a_dynamic_bundle_runs_as_it_did(tiny_bundle: Bundle) -> None:
    assert type(load(tiny_bundle).engine) is OnnxRuntimeSession


def test_layers_are_compared_in_the_entrys_shape(fixed: Bundle, tiny_bundle: Bundle) -> None:
    assert bisect_bundles(fixed, tiny_bundle).end < 1e-5
    assert bisect_bundles(tiny_bundle, fixed).end < 1e-5


def twotower(path: Path, images: int, texts: int) -> None:
    """Scores of every picture beside every text, as CLIP gives them."""
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [images, 3])
    words = helper.make_tensor_value_info("words", TensorProto.FLOAT, [texts, 3])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [images, texts])
    nodes = [
        helper.make_node("Transpose", ["words"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["pixels", "turned"], ["scores"]),
    ]
    graph = helper.make_graph(nodes, "towers", [pixels, words], [scores])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path
    )


def test_two_kinds_of_rows_are_split_and_put_together(tmp_path: Path) -> None:
    buckets = [(2, 3), (2, 1), (1, 3), (1, 1)]
    document = {
        "inputs": [
            {"name": "pixels", "dtype": "float", "shape": ["images", 3]},
            {"name": "words", "dtype": "float", "shape": ["texts", 3]},
        ],
        "outputs": [{"name": "scores", "dtype": "float", "shape": ["images", "texts"]}],
        "padding": {},
        "buckets": [
            {"path": f"{i}-{t}.onnx", "sizes": {"images": i, "texts": t}} for i, t in buckets
        ],
    }
    for images, texts in buckets:
        twotower(tmp_path / f"{images}-{texts}.onnx", images, texts)
    one = open_buckets(engine, tmp_path, listed(document), EngineOptions(threads=1))
    generator = np.random.default_rng(0)
    for images, texts in ((1, 1), (2, 3), (3, 2), (5, 8), (1, 7)):
        pixels = generator.normal(size=(images, 3)).astype(np.float32)
        words = generator.normal(size=(texts, 3)).astype(np.float32)
        (scores,) = one.run_prepared({"pixels": pixels, "words": words}, ["scores"])
        np.testing.assert_allclose(scores, pixels @ words.T, rtol=1e-5)


def test_an_axis_that_no_mask_hides_has_to_fit() -> None:
    plan = Plan({"sound": ("batch", "samples")}, {}, {}, {"batch": (1,), "samples": (4,)})
    assert plan.row_axes == ("batch",)
    assert plan.masked_axes == ()


def doubled(path: Path, batch: int, samples: int) -> None:
    """A sound and its samples twice as loud."""
    sound = helper.make_tensor_value_info("sound", TensorProto.FLOAT, [batch, samples])
    loud = helper.make_tensor_value_info("loud", TensorProto.FLOAT, [batch, samples])
    nodes = [helper.make_node("Add", ["sound", "sound"], ["loud"])]
    graph = helper.make_graph(nodes, "loud", [sound], [loud])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path
    )


def test_a_sound_has_to_have_a_length_that_there_is(tmp_path: Path) -> None:
    document = {
        "inputs": [{"name": "sound", "dtype": "float", "shape": ["batch", "samples"]}],
        "outputs": [{"name": "loud", "dtype": "float", "shape": ["batch", "samples"]}],
        "padding": {},
        "buckets": [{"path": f"{n}.onnx", "sizes": {"batch": 2, "samples": n}} for n in (16, 10)],
    }
    for length in (10, 16):
        doubled(tmp_path / f"{length}.onnx", 2, length)
    one = open_buckets(engine, tmp_path, listed(document), EngineOptions(threads=1))
    for shape in ((1, 10), (2, 16), (3, 10)):
        sound = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        np.testing.assert_array_equal(one.run({"sound": sound})["loud"], sound * 2)
    with pytest.raises(UsageError, match="samples is 12") as caught:
        one.run({"sound": np.ones((1, 12), np.float32)})
    assert "exactly 10, 16" in caught.value.why


@pytest.mark.parametrize(
    ("buckets", "words"),
    [
        ([{"path": "onnx/other.onnx", "sizes": {"batch": 1}}], "does not list"),
        ([{"path": "../../x", "sizes": {"batch": 1}}], "does not list"),
        ([{"path": "onnx/model.onnx", "sizes": {}}], "schema"),
        ([{"path": "onnx/model.onnx", "sizes": {"batch": 0}}], "schema"),
        ([{"path": "onnx/model.onnx", "sizes": {"depth": 1}}], "no input has"),
        ([{"path": "onnx/model.onnx", "sizes": {"batch": 1, "sequence": 2**31}}], "not those"),
        ([{"path": "onnx/model.onnx", "sizes": {"batch": 1}}], "not those"),
        (
            [
                {"path": "onnx/model.onnx", "sizes": {"batch": 4, "sequence": 4}},
                {"path": "onnx/model.onnx", "sizes": {"batch": 1, "sequence": 8}},
            ],
            "do not fit together",
        ),
        (
            [
                {"path": "onnx/model.onnx", "sizes": {"batch": 4}},
                {"path": "onnx/model.onnx", "sizes": {"sequence": 8}},
            ],
            "do not fit together",
        ),
    ],
)
def test_shapes_that_contradict_themselves_are_refused(
    tmp_path: Path, buckets: list[dict[str, Any]], words: str
) -> None:
    bundle = make_fixed_bundle(tmp_path / "b", FixedShapes((("batch", (1,)), ("sequence", (4,)))))
    edit_manifest(bundle.path, lambda document: document.update(buckets=buckets))
    with pytest.raises(ManifestError, match=words):
        load(open_bundle(bundle.path))
