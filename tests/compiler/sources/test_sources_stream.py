"""Weights written one by one are what safetensors reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from edgeward.compiler.safetensors_stream import Planned, write_sharded

ARRAYS = {
    "a": np.arange(12, dtype=np.float32).reshape(3, 4),
    "b": np.arange(5, dtype=np.float16),
    "c": np.arange(6, dtype=np.float32).reshape(2, 3).T,
}
DTYPES = {"a": "F32", "b": "F16", "c": "F32"}


def planned() -> list[Planned]:
    return [
        Planned(name, DTYPES[name], array.shape, lambda array=array: array)
        for name, array in ARRAYS.items()
    ]


def test_one_file_where_it_fits(tmp_path: Path) -> None:
    told: list[tuple[int, str]] = []
    names = write_sharded(tmp_path, planned(), done=lambda n, name: told.append((n, name)))
    assert names == ["model.safetensors"]
    found = load_file(tmp_path / "model.safetensors")
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
    assert told == [(1, "a"), (2, "b"), (3, "c")]


def test_shards_with_an_index_above_a_size(tmp_path: Path) -> None:
    names = write_sharded(tmp_path, planned(), shard_bytes=50)
    assert names == [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["weight_map"] == {"a": names[0], "b": names[1], "c": names[1]}
    assert index["metadata"]["total_size"] == 48 + 10 + 24
    np.testing.assert_array_equal(load_file(tmp_path / names[1])["c"], ARRAYS["c"])


def test_an_array_of_another_size_is_not_written_as_if_it_were_right(tmp_path: Path) -> None:
    wrong = Planned("w", "F32", (2, 2), lambda: np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match=r"w is \(2, 3\)"):
        write_sharded(tmp_path, [wrong])
