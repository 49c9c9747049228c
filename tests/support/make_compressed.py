"""Compresses random layers with compressed-tensors itself; run with the `compressed` toolchain.

usage: make_compressed.py FOLDER. Each scheme lies in FOLDER/SCHEME: a checkpoint of one layer, and
`expected.safetensors` with what compressed-tensors itself makes of it, in float32.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from safetensors.torch import save_file

ROWS, COLUMNS = 96, 128
NAME = "model.layers.0.mlp.down_proj"
INT4 = {"num_bits": 4, "type": "int"}
SCHEMES: dict[str, tuple[str, dict[str, Any]]] = {
    "w4-group": ("pack-quantized", {**INT4, "strategy": "group", "group_size": 32}),
    "w4-channel": ("pack-quantized", {**INT4, "strategy": "channel"}),
    "w4-uneven": (
        "pack-quantized",
        {**INT4, "strategy": "group", "group_size": 32, "symmetric": False},
    ),
    "w3-group": ("pack-quantized", {**INT4, "num_bits": 3, "strategy": "group", "group_size": 64}),
    "w8-group": ("pack-quantized", {**INT4, "num_bits": 8, "strategy": "group", "group_size": 64}),
    "int8-channel": ("int-quantized", {"num_bits": 8, "type": "int", "strategy": "channel"}),
    "fp8-tensor": ("float-quantized", {"num_bits": 8, "type": "float", "strategy": "tensor"}),
    "fp8-channel": ("float-quantized", {"num_bits": 8, "type": "float", "strategy": "channel"}),
    "fp8-block": (
        "float-quantized",
        {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [64, 64]},
    ),
    "nvfp4": (
        "nvfp4-pack-quantized",
        {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16},
    ),
    "mxfp4": (
        "mxfp4-pack-quantized",
        {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32},
    ),
}


def scales(weight: torch.Tensor, args: QuantizationArgs) -> dict[str, torch.Tensor]:
    """The largest of each group over the type's largest number."""
    from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam

    strategy = str(args.strategy)
    if strategy in ("group", "tensor_group"):
        parts = weight.unflatten(-1, (-1, args.group_size))
        low, high = parts.amin(dim=-1), parts.amax(dim=-1)
    elif strategy == "block":
        tall, wide = args.block_structure
        padded = torch.nn.functional.pad(weight, (0, -COLUMNS % wide, 0, -ROWS % tall))
        blocks = padded.unflatten(0, (-1, tall)).unflatten(-1, (-1, wide))
        low, high = blocks.amin(dim=(1, 3)), blocks.amax(dim=(1, 3))
    elif strategy == "channel":
        low, high = weight.amin(dim=-1, keepdim=True), weight.amax(dim=-1, keepdim=True)
    else:
        low, high = weight.min().reshape(1), weight.max().reshape(1)
    found: dict[str, torch.Tensor] = {}
    overall = None
    if strategy == "tensor_group":
        overall = generate_gparam(weight.min().reshape(1), weight.max().reshape(1))
        found["weight_global_scale"] = overall
    scale, zero = calculate_qparams(low, high, args, global_scale=overall)
    found["weight_scale"] = scale
    if not args.symmetric:
        found["weight_zero_point"] = zero
    return found


def write(folder: Path, form: str, settings: dict[str, Any]) -> None:
    """Write one scheme's checkpoint and what it should give."""
    args = QuantizationArgs(**settings)
    scheme = QuantizationScheme(targets=["Linear"], weights=args, format=form)
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(ROWS, COLUMNS, generator=generator)
    compressor = BaseCompressor.get_value_from_registry(form)
    packed = compressor.compress({"weight": weight, **scales(weight, args)}, scheme)
    again = compressor.decompress(dict(packed), scheme)["weight"]
    folder.mkdir(parents=True)
    stored = {f"{NAME}.{key}": value.data.contiguous() for key, value in packed.items()}
    save_file(stored, folder / "model.safetensors")
    save_file({f"{NAME}.weight": again.float().contiguous()}, folder / "expected.safetensors")
    groups = {"group_0": json.loads(scheme.model_dump_json())}
    told = {"quant_method": "compressed-tensors", "format": form, "config_groups": groups}
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    text = json.dumps({**config, "quantization_config": told})
    (folder / "config.json").write_text(text)


if __name__ == "__main__":
    for scheme_name, (scheme_format, scheme_settings) in SCHEMES.items():
        write(Path(sys.argv[1]) / scheme_name, scheme_format, scheme_settings)
