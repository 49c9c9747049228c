"""Inputs and model files that nobody should give: refused in words, never misread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_damage import copy_of, replace_file
from tiny_model import tiny_weights

from edgeward.errors import EngineError, UsageError
from edgeward.runtimes import load
from edgeward.runtimes.bundle.read import Bundle
from edgeward.runtimes.session import Session

IDS = np.array([[2, 5, 3]], np.int64)


@pytest.fixture(scope="module")
def session(tiny_bundle: Bundle) -> Session:
    return load(tiny_bundle, threads=1)


def inputs(**changes: Any) -> dict[str, Any]:
    return {"input_ids": IDS, "attention_mask": np.ones_like(IDS), **changes}


@pytest.mark.parametrize(
    "ids",
    [
        [[1], [2, 3]],
        IDS.astype(np.complex64),
        IDS.astype("datetime64[D]"),
        IDS.astype(str),
        IDS.astype(bool),
        np.array([[None, 1, 2]], object),
        IDS[None],
        np.int64(2),
        np.array([[10**6, 1, 2]]),
        None,
        {},
    ],
    ids=repr,
)
def test_an_array_that_the_graph_cannot_take_is_refused(session: Session, ids: object) -> None:
    with pytest.raises(UsageError, match="do not fit"):
        session.run(inputs(input_ids=ids))


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((3, 3), "batch is 1 in one input and 3 in attention_mask"),
        ((1, 2), "sequence is 3 in one input and 2 in attention_mask"),
        ((1, 1), "sequence is 3 in one input and 1 in attention_mask"),
    ],
)
def test_a_dimension_has_one_length_even_where_a_kernel_would_broadcast(
    session: Session, shape: tuple[int, int], words: str
) -> None:
    with pytest.raises(UsageError, match="do not fit together") as caught:
        session.run(inputs(attention_mask=np.ones(shape, np.int64)))
    assert caught.value.why == f"the dimension {words}"


def test_bytes_in_the_other_order_are_read_as_numbers(session: Session) -> None:
    found = session.run(inputs(input_ids=IDS.astype(">i8")))
    np.testing.assert_array_equal(found["last_hidden_state"], tiny_weights()[IDS])


@pytest.mark.parametrize(
    "ids", [[[2, 5, 3]], np.asfortranarray(IDS), np.repeat(IDS, 2, axis=1)[:, ::2]]
)
def test_lists_and_strided_arrays_are_taken(session: Session, ids: Any) -> None:
    found = session.run(inputs(input_ids=ids))
    np.testing.assert_array_equal(found["last_hidden_state"], tiny_weights()[IDS])


@pytest.mark.parametrize("prompt", ["", "nope", ["query"], {"query": ""}, 5])
def test_a_prompt_that_the_model_does_not_have_is_refused(session: Session, prompt: Any) -> None:
    with pytest.raises(UsageError, match="no prompt"):
        session.embed(["gate"], prompt=prompt)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", b'{"pad_token_id": 1099511627776}'),
        ("config.json", b'{"pad_token_id": -1}'),
        ("config.json", b'{"pad_token_id": true, "hidden_size": "wide"}'),
        ("config.json", b"[]"),
        ("tokenizer_config.json", b'{"pad_token": {"content": 5}, "model_max_length": 1e30}'),
        ("tokenizer_config.json", b'{"pad_token": "nowhere", "model_max_length": -5}'),
    ],
)
def test_odd_settings_of_a_model_change_no_vector(
    tiny_bundle: Bundle, session: Session, tmp_path: Path, name: str, text: bytes
) -> None:
    folder = copy_of(tiny_bundle, tmp_path / "odd")
    replace_file(folder, "tokenizer_config.json", b'{"pad_token": "nowhere"}')
    replace_file(folder, name, text)
    texts = ["gate", "where is gate b12"]
    np.testing.assert_allclose(
        load(folder, threads=1).embed(texts), session.embed(texts), atol=1e-6
    )


@pytest.mark.parametrize("limit", [2, 3])
def test_texts_are_cut_at_the_models_limit(tiny_bundle: Bundle, tmp_path: Path, limit: int) -> None:
    folder = copy_of(tiny_bundle, tmp_path / "short")
    settings = f'{{"pad_token": "[PAD]", "model_max_length": {limit}}}'.encode()
    replace_file(folder, "tokenizer_config.json", settings)
    assert load(folder, threads=1).embed_counted(["where is gate b12", "gate"]).tokens == 2 * limit


@pytest.mark.parametrize("data", [b"", b"\x08", b"not a model", b"\xff" * 4096])
def test_a_file_that_is_no_model_is_the_engines_refusal(
    tiny_bundle: Bundle, tmp_path: Path, data: bytes
) -> None:
    folder = copy_of(tiny_bundle, tmp_path / "broken")
    replace_file(folder, "onnx/model.onnx", data)
    with pytest.raises(EngineError, match=r"cannot load model\.onnx"):
        load(folder, threads=1)


def test_a_format_without_an_engine_is_told(make_bundle: Callable[..., Bundle]) -> None:
    made = make_bundle("odd", changes={"recipe": {"format": "stone", "precision": "fp32"}})
    with pytest.raises(EngineError, match="No engine runs the format 'stone'"):
        load(made)
