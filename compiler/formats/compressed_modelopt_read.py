"""Reads what ModelOpt wrote into a plain model of transformers: weights, and what it rounds.

transformers loads such a checkpoint without an error and drops its scales. Layouts are those of
ModelOpt's `torch/export/quant_utils.py`: FP8 (E4M3) with a scale a tensor, int4 packed along the
output in groups of columns, NVFP4 packed along the columns with an FP8 scale for 16 of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgeward.errors import EngineError

from .compressed_checkpoint import MODELOPT_CONFIG, weight_files

_ALGORITHMS = ("FP8", "W4A16_AWQ", "NVFP4")
_FP8_MAX, _FP4_MAX, _FP4_BLOCK = 448.0, 6.0, 16
_PARTS = ("weight_scale", "weight_scale_2", "input_scale", "pre_quant_scale")


def load_modelopt(folder: Path) -> Any:
    """Return the model with dequantised weights, rounding what its layers read as the engine does.

    Raises EngineError for another algorithm, and where weights are missing or left over.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    algorithm = _algorithm(folder)
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    del config.quantization_config
    tensors = _tensors(folder)
    dtype = next(t.dtype for n, t in tensors.items() if n.endswith("norm.weight"))
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    rounded = sorted(n.removesuffix(".weight_scale") for n in tensors if n.endswith("weight_scale"))
    layers = {name: _taken(tensors, name) for name in rounded}
    for name, parts in layers.items():
        tensors[f"{name}.weight"] = dequantised(algorithm, parts).to(dtype)
    with torch.no_grad():
        found = model.load_state_dict(tensors, strict=False)
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    wrong = sorted({*found.missing_keys, *found.unexpected_keys} - tied)
    if wrong:
        raise EngineError(
            f"{folder} does not fit its config.json",
            why=f"{len(wrong)} weights without a place or a value: {wrong[0]}",
        )
    model.tie_weights()
    for name, parts in layers.items():
        reads = reader(algorithm, parts)
        model.get_submodule(name).register_forward_pre_hook(_hook(reads))
    return model


def dequantised(algorithm: str, parts: Mapping[str, Any]) -> Any:
    """Return one layer's weights, float32 (outputs, columns)."""
    import torch

    weight, scale = parts["weight"], parts["weight_scale"].float()
    if algorithm == "FP8":
        return weight.float() * scale
    if algorithm == "W4A16_AWQ":
        nibbles = torch.stack([weight & 0x0F, weight >> 4], dim=1)
        signed = nibbles.to(torch.int8).reshape(-1, weight.shape[1])
        numbers = torch.where(signed > 7, signed - 16, signed).float()
        return numbers * scale.repeat_interleave(numbers.shape[1] // scale.shape[1], dim=1)
    values = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    nibbles = torch.stack([weight & 0x0F, weight >> 4], dim=-1).flatten(1).long()
    numbers = torch.where(nibbles > 7, -values[nibbles & 7], values[nibbles & 7])
    return numbers * (scale * parts["weight_scale_2"].float()).repeat_interleave(_FP4_BLOCK, dim=1)


def reader(algorithm: str, parts: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Return what a layer makes of what it reads before it multiplies."""
    import torch

    if algorithm == "W4A16_AWQ":
        before = parts.get("pre_quant_scale")
        return lambda read: read if before is None else read * before
    scale = parts["input_scale"].float()
    if algorithm == "FP8":

        def in_fp8(read: Any) -> Any:
            held = (read.float() / scale).clamp(-_FP8_MAX, _FP8_MAX).to(torch.float8_e4m3fn)
            return (held.float() * scale).to(read.dtype)

        return in_fp8

    def in_fp4(read: Any) -> Any:
        blocks = read.float().unflatten(-1, (-1, _FP4_BLOCK))
        most = blocks.abs().amax(dim=-1, keepdim=True) / _FP4_MAX
        held = (most / scale).clamp(max=_FP8_MAX).to(torch.float8_e4m3fn).float() * scale
        numbers = nearest_fp4(blocks / torch.where(held > 0, held, torch.ones_like(held)))
        return (numbers * held).flatten(-2).to(read.dtype)

    return in_fp4


def nearest_fp4(numbers: Any) -> Any:
    """Round to the nearest of E2M1's values, ties to the even one; beyond 6 is 6."""
    from compressed_tensors.quantization.quant_args import FP4_E2M1_DATA

    return FP4_E2M1_DATA.cast_to_fp4(numbers.clamp(-_FP4_MAX, _FP4_MAX))


def _algorithm(folder: Path) -> str:
    stated = json.loads((folder / MODELOPT_CONFIG).read_text("utf-8"))["quantization"]
    algorithm = str(stated["quant_algo"])
    if algorithm not in _ALGORITHMS or stated.get("kv_cache_quant_algo"):
        raise EngineError(
            f"ModelOpt's {algorithm[:50]} is not read here", why=f"known: {', '.join(_ALGORITHMS)}"
        )
    return algorithm


def _tensors(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    found: dict[str, Any] = {}
    for name in weight_files(folder):
        if name.endswith(".safetensors"):
            found |= load_file(folder / name)
    return found


def _taken(tensors: dict[str, Any], name: str) -> dict[str, Any]:
    """Take one layer's parts out of the checkpoint's tensors."""
    names = [part for part in ("weight", *_PARTS) if f"{name}.{part}" in tensors]
    return {part: tensors.pop(f"{name}.{part}") for part in names}


def _hook(reads: Callable[[Any], Any]) -> Callable[[Any, tuple[Any, ...]], tuple[Any, ...]]:
    def hook(module: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
        del module
        return (reads(given[0]), *given[1:])

    return hook
