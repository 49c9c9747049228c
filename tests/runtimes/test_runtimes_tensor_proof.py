"""The proof of outputs compared as they are: sketches, padded batches, damaged cases."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgeward.errors import IntegrityError
from edgeward.runtimes.bundle.manifest import EngineRef
from edgeward.runtimes.engines.base import Tensor
from edgeward.runtimes.proof.files import CASES_NAME, REFERENCE_NAME
from edgeward.runtimes.proof.sketch import MOST_VALUES, compare_sketches, sketch
from edgeward.runtimes.proof.tensors import (
    TensorCase,
    TensorCases,
    hides_tokens,
    read_cases,
    tensor_metrics,
    with_tokens,
    without_hidden,
    write_cases,
)

SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, max_side=40)
FLOATS = st.floats(-100, 100, width=32)


class TokenEngine:
    """Gives a token's own value and a masked sum; sees its batch, as a faulty graph might."""

    ref = EngineRef(name="arithmetic", version="1")
    inputs: Sequence[str] = ("input_ids", "attention_mask")
    outputs: Sequence[str] = ("tokens", "sums")

    def __init__(self, *, leaks: float = 0.0, labels: int = 5) -> None:
        self._leaks, self._labels = leaks, labels

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        ids = inputs["input_ids"].astype(np.float32)
        mask = inputs["attention_mask"].astype(np.float32)
        tokens = np.stack([ids, ids * 2 + self._leaks * (ids.shape[1] - mask.sum(1))[:, None]], -1)
        sums = (ids * mask).sum(1)[:, None] * np.arange(1, self._labels + 1, dtype=np.float32)
        return {"tokens": tokens, "sums": sums}

    def run_prepared(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        found = self.run(inputs)
        return [found[name] for name in outputs]


def text_cases(lengths: Sequence[int]) -> TensorCases:
    cases = []
    for number, length in enumerate(lengths):
        ids = np.arange(1, length + 1)[None] + number
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        outputs = TokenEngine().run(inputs)
        kept = {"tokens": sketch(outputs["tokens"]), "sums": sketch(outputs["sums"], -1)}
        cases.append(TensorCase(f"case {number}", inputs, kept))
    return TensorCases(tuple(cases), {"sums": -1}, padding=7)


@settings(max_examples=60)
@given(arrays.arrays(np.float32, SHAPES, elements=FLOATS))
def test_an_output_equals_itself_and_no_other(output: Tensor) -> None:
    first = sketch(output, -1)
    same = compare_sketches([(first, sketch(output.copy(), -1))])
    assert same["relative_difference"] == 0
    assert same["top1_agreement"] == 1
    other = compare_sketches([(first, sketch(output + 1, -1))])
    assert other["relative_difference"] > 0
    assert first.values.size <= max(MOST_VALUES, output.size)


def test_a_large_output_is_kept_small_with_its_ends() -> None:
    output = np.arange(300 * 30_000, dtype=np.float32).reshape(300, 30_000)
    kept = sketch(output, -1)
    assert kept.values.size <= MOST_VALUES
    assert kept.values[0, 0] == output[0, 0]
    assert kept.values[-1, -1] == output[-1, -1]
    assert kept.picked.tolist() == [29_999] * 300


def test_the_picked_class_is_looked_for_along_its_own_axis() -> None:
    maps = np.zeros((1, 3, 4, 4), np.float32)
    maps[0, 2, :2] = 1
    picked = sketch(maps, 1).picked.reshape(4, 4)
    assert picked.tolist() == [[2] * 4, [2] * 4, [0] * 4, [0] * 4]


@pytest.mark.parametrize("spoil", [np.nan, np.inf])
def test_what_is_not_finite_is_the_worst_there_is(spoil: float) -> None:
    output = np.ones((2, 3), np.float32)
    spoiled = output.copy()
    spoiled[1, 1] = spoil
    metrics = compare_sketches([(sketch(output), sketch(spoiled))])
    assert metrics["cosine_min"] == -1
    assert metrics["relative_difference"] > 1e20


@pytest.mark.parametrize("lengths", [(1, 5), (5, 5, 5), (2, 9, 4, 4, 30, 1)])
def test_padding_that_changes_nothing_passes(lengths: Sequence[int]) -> None:
    metrics = tensor_metrics(TokenEngine(), text_cases(lengths))
    assert metrics["relative_difference"] == 0
    assert metrics["top1_agreement"] == 1


def test_padding_that_leaks_is_seen() -> None:
    metrics = tensor_metrics(TokenEngine(leaks=0.5), text_cases((2, 9)))
    assert metrics["relative_difference"] > 0.01


def test_outputs_of_another_shape_are_seen() -> None:
    metrics = tensor_metrics(TokenEngine(labels=4), text_cases((2, 9)))
    assert metrics["cosine_min"] == -1


def test_cases_are_read_as_they_were_written(tmp_path: Path) -> None:
    given_cases = text_cases((3, 8))
    write_cases(tmp_path, given_cases)
    found = read_cases(tmp_path)
    assert (found.classes, found.padding) == ({"sums": -1}, 7)
    for one, other in zip(found.cases, given_cases.cases, strict=True):
        assert one.name == other.name
        assert all(np.array_equal(one.inputs[n], v) for n, v in other.inputs.items())
        assert all(
            np.array_equal(one.outputs[n].values, v.values) for n, v in other.outputs.items()
        )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / CASES_NAME).write_text("{"),
        lambda folder: (folder / CASES_NAME).write_text('{"cases": [1]}'),
        lambda folder: (folder / CASES_NAME).write_text("[]"),
        lambda folder: (folder / REFERENCE_NAME).write_bytes(b"\x00" * 9),
        lambda folder: (folder / REFERENCE_NAME).unlink(),
        lambda folder: (folder / CASES_NAME).write_text(
            json.dumps(
                {
                    "classes": {},
                    "padding": 0,
                    "cases": [{"name": "x", "texts": []} for _ in range(9)],
                }
            )
        ),
    ],
)
def test_damaged_cases_are_told(tmp_path: Path, spoil: object) -> None:
    write_cases(tmp_path, text_cases((3,)))
    assert callable(spoil)
    spoil(tmp_path)
    with pytest.raises(IntegrityError, match="damaged"):
        read_cases(tmp_path)


class OwnMask(TokenEngine):
    """Gives what the mask hides values that depend on how many there are."""

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = super().run(inputs)
        hidden = inputs["attention_mask"] == 0
        found["tokens"] = found["tokens"] + (hidden * hidden.sum())[..., None]
        return found


def test_what_a_mask_hides_is_not_compared_and_all_else_is() -> None:
    """The sums are as wide as the second text is long: they are compared all the same."""
    inputs = []
    for length in (3, 5):
        mask = np.ones((2, length), np.int64)
        mask[1, 1:] = 0
        inputs.append(
            {"input_ids": np.arange(2 * length).reshape(2, length), "attention_mask": mask}
        )
    assert all(hides_tokens(each) for each in inputs)

    def cases(engine: TokenEngine) -> TensorCases:
        kept = []
        for each in inputs:
            outputs = engine.run(each)
            outputs["tokens"] = without_hidden(outputs["tokens"], each)
            kept.append(TensorCase("case", each, {n: sketch(v) for n, v in outputs.items()}))
        return TensorCases(tuple(kept), {})

    plain = cases(TokenEngine())
    assert tensor_metrics(OwnMask(), plain)["relative_difference"] == 0
    other = TensorCases(
        tuple(
            replace(case, outputs={**case.outputs, "sums": sketch(np.ones((2, 5), np.float32))})
            for case in plain.cases
        ),
        {},
    )
    assert tensor_metrics(TokenEngine(), other)["relative_difference"] > 0.1
    shapes = [{"tokens": (2, n, 2), "sums": (2, 5)} for n in (3, 5)]
    assert with_tokens(inputs, shapes) == {"tokens"}
