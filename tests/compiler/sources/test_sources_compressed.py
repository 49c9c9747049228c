"""Compressed checkpoints: packed by hand as each format says, they come back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from edgeward.compiler.dequantise_checkpoint import dequantise
from edgeward.compiler.dequantise_rules import FP4
from edgeward.compiler.safetensors_read import E4M3, read_entries
from edgeward.compiler.source_compressed import read_compressed
from edgeward.compiler.stage_context import StageContext
from edgeward.errors import SourceError, UnsupportedError

ROWS, COLUMNS, GROUP = 16, 64, 16
NAME = "model.layers.0.mlp.down_proj"
RANDOM = np.random.default_rng(9)
Arrays = dict[str, NDArray[Any]]


def in_words(numbers: NDArray[Any], bits: int) -> NDArray[np.int32]:
    """Pack each row's numbers one behind another, lowest bits first, into words."""
    rows = []
    for row in numbers:
        stream = sum(int(n) << (bits * at) for at, n in enumerate(row))
        words = -(-len(row) * bits // 32)
        rows.append(np.frombuffer(stream.to_bytes(4 * words, "little"), "<i4"))
    return np.stack(rows)


def grouped(scales: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(scales, GROUP, axis=1)


def gptq(bits: int, order: NDArray[Any] | None = None) -> tuple[Arrays, NDArray[Any]]:
    numbers = RANDOM.integers(0, 1 << bits, (ROWS, COLUMNS))
    zeros = RANDOM.integers(1, 1 << bits, (ROWS, COLUMNS // GROUP))
    scales = RANDOM.uniform(0.01, 0.1, zeros.shape).astype(np.float16)
    groups = np.arange(COLUMNS) // GROUP if order is None else order
    weight = (numbers - zeros[:, groups]) * scales[:, groups].astype(np.float32)
    stored = {
        f"{NAME}.qweight": np.ascontiguousarray(in_words(numbers, bits).T),
        f"{NAME}.qzeros": in_words((zeros - 1).T, bits),
        f"{NAME}.scales": np.ascontiguousarray(scales.T),
        f"{NAME}.g_idx": groups.astype(np.int32),
    }
    return stored, weight


def awq() -> tuple[Arrays, NDArray[Any]]:
    numbers = RANDOM.integers(0, 16, (COLUMNS, ROWS))
    zeros = RANDOM.integers(0, 16, (COLUMNS // GROUP, ROWS))
    scales = RANDOM.uniform(0.01, 0.1, zeros.shape).astype(np.float16)
    spread = [np.repeat(one.astype(np.float32), GROUP, axis=0) for one in (zeros, scales)]
    weight = ((numbers - spread[0]) * spread[1]).T

    def packed(values: NDArray[Any]) -> NDArray[np.int32]:
        words = np.zeros((len(values), values.shape[1] // 8), np.uint32)
        for nibble, column in enumerate((0, 2, 4, 6, 1, 3, 5, 7)):
            words |= (values[:, column::8] << (4 * nibble)).astype(np.uint32)
        return words.view(np.int32)

    stored = {f"{NAME}.qweight": packed(numbers), f"{NAME}.qzeros": packed(zeros)}
    return {**stored, f"{NAME}.scales": scales}, weight


def blocks_of_bytes() -> tuple[Arrays, NDArray[Any]]:
    """A scale a block of a stated size, the last ones narrower: DeepSeek's, with integers."""
    numbers = RANDOM.integers(-99, 99, (ROWS + 4, COLUMNS + 8)).astype(np.int8)
    scales = RANDOM.uniform(0.01, 0.1, (3, 5)).astype(np.float32)
    spread = np.kron(scales, np.ones((8, 16), np.float32))[: ROWS + 4, : COLUMNS + 8]
    return {f"{NAME}.weight": numbers, f"{NAME}.weight_scale_inv": scales}, numbers * spread


def bytes_of_experts() -> tuple[Arrays, NDArray[Any]]:
    codes = RANDOM.integers(0, 16, (2, ROWS, 2, 32))
    powers = RANDOM.integers(120, 130, (2, ROWS, 2)).astype(np.uint8)
    weight = FP4[codes] * 2.0 ** (powers.astype(np.float32)[..., None] - 127)
    halves = (codes[..., 0::2] | (codes[..., 1::2] << 4)).astype(np.uint8)
    name = "model.layers.0.mlp.experts.gate_up_proj"
    stored = {f"{name}_blocks": halves, f"{name}_scales": powers}
    return stored, weight.reshape(2, ROWS, 64).swapaxes(1, 2)


def modelopt_eight() -> tuple[Arrays, NDArray[Any]]:
    codes = RANDOM.integers(-127, 127, (ROWS, COLUMNS)).astype(np.int8)
    scale = np.float32(0.013)
    stored = {
        f"{NAME}.weight": codes,
        f"{NAME}.weight_scale": np.array([scale], np.float32),
        f"{NAME}.input_scale": np.array([0.5], np.float32),
        "model.layers.0.self_attn.k_scale": np.array([0.5], np.float32),
    }
    return stored, codes * scale


LAYOUTS: dict[str, tuple[dict[str, Any], tuple[Arrays, NDArray[Any]]]] = {
    **{f"gptq-{n}": ({"quant_method": "gptq", "bits": n}, gptq(n)) for n in (2, 3, 4, 8)},
    "gptq-reordered": (
        {"quant_method": "gptq", "bits": 4, "desc_act": True},
        gptq(4, RANDOM.permutation(np.arange(COLUMNS) // GROUP)),
    ),
    "blocks": ({"quant_method": "fp8", "weight_block_size": [8, 16]}, blocks_of_bytes()),
    "awq": ({"quant_method": "awq", "bits": 4, "version": "GEMM"}, awq()),
    "experts": ({"quant_method": "mxfp4"}, bytes_of_experts()),
    "modelopt": ({"quant_method": "modelopt", "quant_algo": "INT8"}, modelopt_eight()),
}


def checkpoint(folder: Path, settings: dict[str, Any], stored: Arrays) -> dict[str, Any]:
    """Write a checkpoint with one plain tensor beside what is packed."""
    norm = {"model.norm.weight": np.ones(4, np.float16)}
    save_file({**stored, **norm}, folder / "model.safetensors")
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "torch_dtype": "float16",
        "quantization_config": settings,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return config


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_packed_by_hand_comes_back(layout: str, tmp_path: Path) -> None:
    settings, (stored, wanted) = LAYOUTS[layout]
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    config = checkpoint(source, settings, stored)
    packed = read_compressed(source, config, ["model.safetensors"])
    assert packed is not None and packed.format == settings["quant_method"]
    assert packed.float_bytes == 4 * wanted.size + 8
    context = StageContext({"source": source}, out)
    dequantise(context, {"weights": ["model.safetensors"], "files": []})
    found = load_file(out / "model.safetensors")
    name = next(name for name in found if name != "model.norm.weight")
    np.testing.assert_allclose(found[name], wanted, rtol=1e-6, atol=0)
    assert set(found) == {name, "model.norm.weight"}
    assert found["model.norm.weight"].dtype == np.float16
    plain = json.loads((out / "config.json").read_text())
    assert "quantization_config" not in plain and plain["dtype"] == "float32"


def test_modelopts_own_file_is_seen(tmp_path: Path) -> None:
    settings, (stored, _) = LAYOUTS["modelopt"]
    config = checkpoint(tmp_path, settings, stored)
    del config["quantization_config"]
    told = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(told))
    packed = read_compressed(tmp_path, config, ["model.safetensors"])
    assert packed is not None and packed.format == "modelopt"


def test_a_plain_checkpoint_is_left_alone(tmp_path: Path) -> None:
    config = checkpoint(tmp_path, {}, {})
    del config["quantization_config"]
    assert read_compressed(tmp_path, config, ["model.safetensors"]) is None


REFUSED: dict[str, tuple[dict[str, Any], Arrays, str]] = {
    "method": ({"quant_method": "bitsandbytes"}, {}, "compressed by bitsandbytes"),
    "no method": ({"bits": 4}, {}, "an unnamed method"),
    "sparse": (
        {"quant_method": "compressed-tensors", "sparsity_config": {"format": "sparse-24-bitmask"}},
        {},
        "stored sparsely",
    ),
    "rotated": (
        {"quant_method": "compressed-tensors", "transform_config": {"config_groups": {"u": {}}}},
        {},
        "rotated",
    ),
    "gemv": ({"quant_method": "awq", "version": "gemv"}, {}, "packed for gemv"),
    "bits": ({"quant_method": "gptq", "bits": 5}, {}, "5 bits"),
    "before": (
        {"quant_method": "modelopt"},
        {f"{NAME}.pre_quant_scale": np.ones(4, np.float32)},
        "scales activations",
    ),
    "unknown": (
        {"quant_method": "fp8"},
        {f"{NAME}.odd": np.ones((4, 4), np.uint8)},
        "is U8 without a scale",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_dequantised_is_refused_before_any_work(what: str, tmp_path: Path) -> None:
    settings, stored, words = REFUSED[what]
    config = checkpoint(tmp_path, settings, stored)
    with pytest.raises(UnsupportedError) as caught:
        read_compressed(tmp_path, config, ["model.safetensors"])
    assert words in str(caught.value)


def test_a_weight_without_its_scale_is_named(tmp_path: Path) -> None:
    stored = {f"{NAME}.weight": np.ones((4, 4), np.int8)}
    config = checkpoint(tmp_path, {"quant_method": "fp8"}, stored)
    with pytest.raises(SourceError, match=r"lacks .*weight_scale"):
        read_compressed(tmp_path, config, ["model.safetensors"])


def test_scales_that_do_not_fit_are_said_by_the_stage(tmp_path: Path) -> None:
    stored = {
        f"{NAME}.weight": np.ones((4, 6), np.int8),
        f"{NAME}.weight_scale": np.ones((3, 5), np.float32),
    }
    checkpoint(tmp_path, {"quant_method": "fp8"}, stored)
    (tmp_path / "out").mkdir()
    context = StageContext({"source": tmp_path}, tmp_path / "out")
    with pytest.raises(SourceError, match="cannot be dequantised"):
        dequantise(context, {"weights": ["model.safetensors"], "files": []})


def test_a_header_that_lies_is_refused(tmp_path: Path) -> None:
    header = {"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 4)
    with pytest.raises(SourceError, match="not a whole safetensors file"):
        read_entries([path])


def test_eight_bit_floats_are_those_of_the_specification() -> None:
    """OCP's E4M3: no infinities, 448 the largest, 2 to the -9 the smallest."""
    assert E4M3[0x7E] == 448 and E4M3[0x01] == 2.0**-9 and E4M3[0x38] == 1
    assert np.isnan(E4M3[0x7F]) and np.isnan(E4M3[0xFF]) and E4M3[0xB8] == -1
