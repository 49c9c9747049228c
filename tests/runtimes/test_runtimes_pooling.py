"""From token vectors to sentence vectors, against the plain formulas."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save_file

from edgeward.errors import SourceError, UnsupportedError
from edgeward.runtimes.tasks.pooling import POOLING, normalize, read_pipeline

Floats = NDArray[np.float32]


def plain(mode: str, real: Floats) -> Floats:
    """One text's real tokens (tokens, width) to its vector."""
    count = len(real)
    places = np.arange(1, count + 1)[:, None]
    return {
        "cls": real[0],
        "lasttoken": real[-1],
        "max": real.max(axis=0),
        "mean": real.sum(axis=0) / count,
        "mean_sqrt_len_tokens": real.sum(axis=0) / np.sqrt(count),
        "weightedmean": (real * places).sum(axis=0) / places.sum(),
    }[mode]


@pytest.mark.parametrize("mode", sorted(POOLING))
@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=5),
    on_the_left=st.booleans(),
    seed=st.integers(0, 99),
)
def test_padding_changes_no_vector(
    mode: str, lengths: list[int], on_the_left: bool, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    longest = max(lengths)
    tokens = generator.standard_normal((len(lengths), longest, 4)).astype(np.float32)
    mask = np.zeros((len(lengths), longest), np.int64)
    wanted = []
    for row, length in enumerate(lengths):
        kept = slice(longest - length, None) if on_the_left else slice(0, length)
        mask[row, kept] = 1
        wanted.append(plain(mode, tokens[row, kept]))
    np.testing.assert_allclose(POOLING[mode](tokens, mask), np.stack(wanted), atol=1e-5)


def test_normalised_vectors_have_length_one_and_zero_stays_zero() -> None:
    vectors = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    np.testing.assert_allclose(normalize(vectors), [[0.6, 0.8], [0.0, 0.0]])


def write(folder: Path, name: str, document: object) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(document))


def listed(folder: Path, *kinds: str) -> None:
    modules = [
        {"path": "" if kind == "Transformer" else kind, "type": f"sentence_transformers.{kind}"}
        for kind in kinds
    ]
    write(folder, "modules.json", modules)


def test_a_model_without_such_files_is_pooled_by_the_mean(tmp_path: Path) -> None:
    assert read_pipeline(tmp_path).modes == ("mean",)


def test_several_modes_stand_side_by_side(tmp_path: Path) -> None:
    listed(tmp_path, "Transformer", "Pooling")
    flags = {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}
    write(tmp_path, "Pooling/config.json", {**flags, "pooling_mode_mean_tokens": False})
    tokens = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    vectors = read_pipeline(tmp_path)(tokens, np.array([[1, 1, 0]]))
    np.testing.assert_array_equal(vectors, [[0, 1, 2, 3, 4, 5, 6, 7]])


def test_a_dense_layer_takes_part(tmp_path: Path) -> None:
    listed(tmp_path, "Transformer", "Pooling", "Dense", "Normalize")
    write(tmp_path, "Pooling/config.json", {"pooling_mode_mean_tokens": True})
    activation = "torch.nn.modules.activation.Tanh"
    write(tmp_path, "Dense/config.json", {"activation_function": activation})
    weight = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]], np.float32)
    bias = np.array([0.0, 1.0, 0.0], np.float32)
    tensors = {"linear.weight": weight, "linear.bias": bias}
    save_file(tensors, tmp_path / "Dense" / "model.safetensors")
    tokens = np.array([[[0.5, -0.25]]], np.float32)
    wanted = np.tanh(weight @ tokens[0, 0] + bias)
    found = read_pipeline(tmp_path)(tokens, np.array([[1]]))
    np.testing.assert_allclose(found, [wanted / np.linalg.norm(wanted)], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "document", "error"),
    [
        ("modules.json", {"not": "a list"}, SourceError),
        ("modules.json", [{"path": "../..", "type": "a.Pooling"}], SourceError),
        ("modules.json", [{"path": "", "type": "a.Transformer"}, {"type": 5}], SourceError),
        ("modules.json", [{"path": "x", "type": "a.Juggling"}], UnsupportedError),
        ("Pooling/config.json", {"pooling_mode": "juggle"}, UnsupportedError),
        ("Pooling/config.json", [], SourceError),
    ],
)
def test_hostile_files_are_refused(
    tmp_path: Path, name: str, document: object, error: type[Exception]
) -> None:
    listed(tmp_path, "Transformer", "Pooling")
    write(tmp_path, "Pooling/config.json", {"pooling_mode_mean_tokens": True})
    write(tmp_path, name, document)
    with pytest.raises(error):
        read_pipeline(tmp_path)


def test_a_dense_layer_of_another_width_is_told(tmp_path: Path) -> None:
    listed(tmp_path, "Transformer", "Pooling", "Dense")
    write(tmp_path, "Pooling/config.json", {"pooling_mode_mean_tokens": True})
    write(tmp_path, "Dense/config.json", {})
    save_file({"linear.weight": np.ones((3, 5), np.float32)}, tmp_path / "Dense/model.safetensors")
    with pytest.raises(SourceError, match="5 dimensions"):
        read_pipeline(tmp_path)(np.ones((1, 1, 2), np.float32), np.array([[1]]))
