"""Sentence-transformers files from a stranger: paths, weights and modes that cannot be meant."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from edgeward.errors import EdgewardError, SourceError, UnsupportedError
from edgeward.runtimes.tasks.pooling import read_pipeline


def write_modules(folder: Path, kind: str, path: object) -> None:
    (folder / "modules.json").write_text(json.dumps([{"type": f"a.{kind}", "path": path}]))


def write_weights(path: Path, dtype: str, shape: list[int], data: bytes) -> None:
    entry = {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}
    header = json.dumps({"linear.weight": entry}).encode()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


@pytest.mark.parametrize(
    "path",
    ["..", "a/../..", "/", "/etc", "a\x00b", "\ud800", "x" * 5000, "a\\b", "C:/a", None, 5, ["a"]],
)
@pytest.mark.parametrize("kind", ["Pooling", "Dense", "Transformer"])
def test_a_module_outside_the_folder_is_refused(tmp_path: Path, kind: str, path: object) -> None:
    write_modules(tmp_path, kind, path)
    with pytest.raises(SourceError, match="outside the folder"):
        read_pipeline(tmp_path)


@pytest.mark.parametrize("path", ["1_Pooling", "1_Pooling/", "./1_Pooling"])
def test_a_folder_may_be_written_in_several_ways(tmp_path: Path, path: str) -> None:
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    write_modules(tmp_path, "Pooling", path)
    assert read_pipeline(tmp_path).modes == ("cls",)


@pytest.mark.parametrize(("dtype", "size"), [("F8_E4M3", 6), ("I64", 48), ("BOOL", 6)])
def test_weights_of_another_type_are_told(tmp_path: Path, dtype: str, size: int) -> None:
    write_modules(tmp_path, "Dense", "D")
    write_weights(tmp_path / "D" / "model.safetensors", dtype, [3, 2], bytes(size))
    with pytest.raises(UnsupportedError, match=f"weights of the type {dtype}"):
        read_pipeline(tmp_path)


WEIGHTS = np.array([[1, -2], [0.5, 0.25], [3, -0.0078125]])
AS_STORED = {
    "F64": WEIGHTS.astype("<f8"),
    "F32": WEIGHTS.astype("<f4"),
    "F16": WEIGHTS.astype("<f2"),
    "BF16": (WEIGHTS.astype("<f4").view("<u4") >> 16).astype("<u2"),
}


@pytest.mark.parametrize("dtype", sorted(AS_STORED))
def test_weights_of_every_width_are_used_in_float32(tmp_path: Path, dtype: str) -> None:
    write_modules(tmp_path, "Dense", "D")
    data = AS_STORED[dtype].tobytes()
    write_weights(tmp_path / "D" / "model.safetensors", dtype, [3, 2], data)
    found = read_pipeline(tmp_path)(np.ones((1, 1, 2), np.float32), np.ones((1, 1), np.int64))
    np.testing.assert_array_equal(found, [WEIGHTS.sum(axis=1).astype(np.float32)])
    assert found.dtype == np.float32


def test_weights_without_the_one_that_counts_are_refused(tmp_path: Path) -> None:
    write_modules(tmp_path, "Dense", "D")
    (tmp_path / "D").mkdir()
    save_file({"other": np.ones((2, 2), np.float32)}, tmp_path / "D" / "model.safetensors")
    with pytest.raises(SourceError, match=r"linear\.weight"):
        read_pipeline(tmp_path)


@pytest.mark.parametrize(("shape", "size"), [([], 4), ([4], 16), ([1, 2, 2], 16), ([2, 2], 8)])
def test_weights_of_another_shape_are_refused(tmp_path: Path, shape: list[int], size: int) -> None:
    write_modules(tmp_path, "Dense", "D")
    write_weights(tmp_path / "D" / "model.safetensors", "F32", shape, bytes(size))
    with pytest.raises(SourceError, match="weights"):
        read_pipeline(tmp_path)


@pytest.mark.parametrize("mode", [[], [1], ["mean", ["x"]], "MEAN", "", ["mean", "mean", "no"]])
def test_a_mode_that_is_none_is_refused(tmp_path: Path, mode: object) -> None:
    write_modules(tmp_path, "Pooling", "")
    (tmp_path / "config.json").write_text(json.dumps({"pooling_mode": mode}))
    with pytest.raises(EdgewardError, match="asks for the pooling"):
        read_pipeline(tmp_path)
