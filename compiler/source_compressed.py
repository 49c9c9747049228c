"""A compressed checkpoint as a source: how it was compressed, told by config and headers alone."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeward.errors import SourceError, UnsupportedError
from edgeward.runtimes.tasks.pooling import read_json

from .dequantise_rules import Restored
from .safetensors_read import Entry, read_entries, read_stored
from .source_packed import Packed

MODELOPT_CONFIG = "hf_quant_config.json"
_METHODS = ("compressed-tensors", "fp8", "fbgemm_fp8", "gptq", "awq", "modelopt", "mxfp4")
_FLOATS = {"F64", "F32", "F16", "BF16"}
_EIGHT_BITS = {"F8_E4M3", "F8_E5M2", "I8"}
_GROUPED_BY_HAND = "pre_quant_scale"
# Parts of a weight, and what only an engine's activations or cache need.
_PARTS = (
    r"weight_packed|weight_scale|weight_scale_inv|weight_scale_2|weight_zero_point|weight_g_idx"
    r"|weight_shape|weight_global_scale|qweight|qzeros|scales|g_idx"
)
_UNUSED = (
    r"input_scale|input_zero_point|input_global_scale|output_scale|output_zero_point"
    r"|[qkv]_scale|prob_scale|[kv]_zero_point|activation_scale|input_scale_ub"
)
_COMPANION = re.compile(rf".+\.(?:{_PARTS}|{_UNUSED})|.+_(?:blocks|scales)")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Its tensors, and what its configuration says of how they were compressed."""

    method: str
    settings: Mapping[str, Any]
    entries: Mapping[str, Entry]

    def part(self, name: str) -> Entry | None:
        """Return a tensor, None where there is none."""
        return self.entries.get(name)


def read_compressed(
    folder: Path, config: Mapping[str, Any], weights: Sequence[str]
) -> Packed | None:
    """Return what a checkpoint is to be dequantised of, None where it is plain.

    Raises UnsupportedError for a method or layout that is not known, SourceError for parts that
    are missing.
    """
    settings = quantisation_settings(folder, config)
    if settings is None:
        return None
    paths = [folder / name for name in weights]
    checkpoint = open_checkpoint(folder, settings, paths)
    restored, kept = restorations(checkpoint)
    sizes = [4 * math.prod(one.shape) for one in restored] + [one.size for one in kept]
    kinds = Counter([_kind(one) for one in restored] + [one.dtype for one in kept])
    return Packed(
        format=checkpoint.method,
        paths=tuple(paths),
        sha256="",
        types=dict(sorted(kinds.items())),
        float_bytes=sum(sizes),
        folder=folder,
    )


def quantisation_settings(folder: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what config.json, or ModelOpt's own file, says; None where nothing does."""
    stated = config.get("quantization_config") or config.get("compression_config")
    if isinstance(stated, dict):
        return stated
    path = folder / MODELOPT_CONFIG
    if not path.is_file():
        return None
    document = read_json(path)
    told = document.get("quantization") if isinstance(document, dict) else None
    return {"quant_method": "modelopt", **(told if isinstance(told, dict) else {})}


def open_checkpoint(folder: Path, settings: Mapping[str, Any], paths: Sequence[Path]) -> Checkpoint:
    """Return the checkpoint; UnsupportedError for what is not read of it."""
    method = str(settings.get("quant_method", "")).lower()[:60]
    if method not in _METHODS:
        raise UnsupportedError(
            f"{folder} is compressed by {method or 'an unnamed method'}",
            why=f"dequantised are: {', '.join(_METHODS)}",
            next="edgeward compile the original, uncompressed model",
        )
    _refuse_settings(folder, method, settings)
    entries = read_entries(paths)
    by_hand = next((name for name in entries if name.endswith(_GROUPED_BY_HAND)), None)
    if by_hand:
        raise UnsupportedError(
            f"{folder} scales activations before its weights", why=f"{by_hand[:120]} is not undone"
        )
    return Checkpoint(method, settings, entries)


def _refuse_settings(folder: Path, method: str, settings: Mapping[str, Any]) -> None:
    sparsity = settings.get("sparsity_config")
    sparse = sparsity.get("format") if isinstance(sparsity, dict) else None
    transform = settings.get("transform_config")
    problem = ""
    if sparse not in (None, "dense"):
        problem = f"its weights are stored sparsely ({sparse})"
    elif isinstance(transform, dict) and transform.get("config_groups"):
        problem = "its weights are rotated, and its activations would have to be too"
    elif method == "awq" and str(settings.get("version", "gemm")).lower() != "gemm":
        problem = f"it is packed for {str(settings.get('version'))[:40]}, not for gemm"
    elif method == "gptq" and settings.get("bits") not in (2, 3, 4, 8):
        problem = f"it has {str(settings.get('bits'))[:20]} bits"
    elif method == "awq" and settings.get("bits", settings.get("w_bit")) not in (4, None):
        problem = "only four bits are read"
    if problem:
        raise UnsupportedError(f"{folder} cannot be dequantised", why=problem)


def restorations(checkpoint: Checkpoint) -> tuple[list[Restored], list[Entry]]:
    """Return the weights to make and the tensors that are kept as they are."""
    restored = list(_restored(checkpoint))
    used = {part.name for one in restored for part in one.parts.values()}
    kept = []
    for name, entry in checkpoint.entries.items():
        if name in used or _COMPANION.fullmatch(name):
            continue
        if entry.dtype not in _FLOATS:
            raise UnsupportedError(
                f"{name[:120]} is {entry.dtype} without a scale",
                why=f"no layout of {checkpoint.method} that is read has it",
            )
        kept.append(entry)
    return restored, kept


def _restored(checkpoint: Checkpoint) -> Iterator[Restored]:
    for name, entry in checkpoint.entries.items():
        stem, _, last = name.rpartition(".")
        if last == "weight_packed" and entry.dtype == "I32":
            yield _packed(checkpoint, stem, entry)
        elif last == "weight_packed":
            yield _fp4(checkpoint, stem, entry, "weight_global_scale")
        elif last == "qweight":
            yield _words(checkpoint, stem, entry)
        elif last == "weight" and entry.dtype in _EIGHT_BITS:
            yield _scaled(checkpoint, stem, entry)
        elif last == "weight" and entry.dtype == "U8":
            yield _fp4(checkpoint, stem, entry, "weight_scale_2")
        elif name.endswith("_blocks"):
            yield _experts(checkpoint, name.removesuffix("_blocks"), entry)


def _needed(checkpoint: Checkpoint, *names: str) -> Entry:
    found = next((one for name in names if (one := checkpoint.part(name)) is not None), None)
    if found is None:
        raise SourceError(f"the checkpoint lacks {names[0][:120]}", why="a weight's other part")
    return found


def _optional(checkpoint: Checkpoint, **names: str) -> dict[str, Entry]:
    found = {role: checkpoint.part(name) for role, name in names.items()}
    return {role: entry for role, entry in found.items() if entry is not None}


def _scaled(checkpoint: Checkpoint, stem: str, entry: Entry) -> Restored:
    if len(entry.shape) != 2:
        raise UnsupportedError(f"{entry.name[:120]} has {len(entry.shape)} dimensions")
    scale = _needed(checkpoint, f"{stem}.weight_scale", f"{stem}.weight_scale_inv")
    parts = {"weight": entry, "scale": scale}
    parts |= _optional(checkpoint, zero=f"{stem}.weight_zero_point")
    block = _block(checkpoint.settings)
    numbers = {"block": block} if block else {}
    return Restored(entry.name, entry.shape, "scaled", parts, numbers)


def _block(settings: Mapping[str, Any]) -> tuple[int, int] | None:
    """The size of the blocks that share a scale, where it is stated."""
    stated = [settings.get("weight_block_size")]
    stated += [one.get("block_structure") for one in _weights(settings)]
    for size in stated:
        if isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) for n in size):
            return (size[0], size[1]) if min(size) > 0 else None
    return None


def _weights(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What compressed-tensors states of the weights, by groups of layers."""
    groups = settings.get("config_groups")
    listed = groups.values() if isinstance(groups, dict) else ()
    weights = [one.get("weights") for one in listed if isinstance(one, dict)]
    return [one for one in weights if isinstance(one, dict)]


def _packed(checkpoint: Checkpoint, stem: str, entry: Entry) -> Restored:
    stored = read_stored(_needed(checkpoint, f"{stem}.weight_shape"))
    shape = tuple(int(one) for one in stored.reshape(-1))
    if len(shape) != 2 or len(entry.shape) != 2 or shape[0] != entry.shape[0]:
        raise UnsupportedError(f"{entry.name[:120]} is packed of {shape}", why="two are read")
    stated = {one.get("num_bits") for one in _weights(checkpoint.settings)}
    fits = [bits for bits in range(1, 9) if -(-shape[1] * bits // 32) == entry.shape[1]]
    fits = [bits for bits in fits if bits in stated] or fits
    if len(fits) != 1:
        raise UnsupportedError(f"{entry.name[:120]} has a width that tells no number of bits")
    parts = {"weight": entry, "scale": _needed(checkpoint, f"{stem}.weight_scale")}
    parts |= _optional(checkpoint, zero=f"{stem}.weight_zero_point", groups=f"{stem}.weight_g_idx")
    return Restored(f"{stem}.weight", shape, "packed", parts, {"bits": fits[0]})


def _fp4(checkpoint: Checkpoint, stem: str, entry: Entry, overall: str) -> Restored:
    scale = _needed(checkpoint, f"{stem}.weight_scale")
    shape = (*entry.shape[:-1], 2 * entry.shape[-1])
    parts = {"weight": entry, "scale": scale}
    if len(shape) != 2 or scale.dtype not in ("U8", "F8_E8M0", "F8_E4M3"):
        raise UnsupportedError(f"{entry.name[:120]} is four bits in a layout that is not read")
    if scale.dtype != "F8_E4M3":
        return Restored(f"{stem}.weight", shape, "mxfp4", parts)
    parts["global"] = _needed(checkpoint, f"{stem}.{overall}")
    numbers = {"multiplied": overall == "weight_scale_2"}
    return Restored(f"{stem}.weight", shape, "nvfp4", parts, numbers)


def _words(checkpoint: Checkpoint, stem: str, entry: Entry) -> Restored:
    """GPTQ packs the inputs, AWQ the outputs."""
    scale = _needed(checkpoint, f"{stem}.scales")
    parts = {"weight": entry, "scale": scale, "zero": _needed(checkpoint, f"{stem}.qzeros")}
    if checkpoint.method == "awq":
        shape = (entry.shape[1] * 8, entry.shape[0])
        return Restored(f"{stem}.weight", shape, "awq", parts)
    parts |= _optional(checkpoint, groups=f"{stem}.g_idx")
    bits = int(checkpoint.settings["bits"])
    first = str(checkpoint.settings.get("checkpoint_format", "gptq")).lower() != "gptq_v2"
    shape = (entry.shape[1], entry.shape[0] * 32 // bits)
    numbers = {"bits": bits, "zero_offset": 1 if first else 0}
    return Restored(f"{stem}.weight", shape, "gptq", parts, numbers)


def _experts(checkpoint: Checkpoint, stem: str, entry: Entry) -> Restored:
    scale = _needed(checkpoint, f"{stem}_scales")
    if len(entry.shape) != 4 or entry.dtype != "U8":
        raise UnsupportedError(f"{entry.name[:120]} is blocks in a layout that is not read")
    experts, rows, groups, half = entry.shape
    shape = (experts, groups * half * 2, rows)
    return Restored(stem, shape, "mxfp4-experts", {"weight": entry, "scale": scale})


def _kind(one: Restored) -> str:
    """What the manifest calls a weight's type."""
    if one.rule == "scaled":
        return one.parts["weight"].dtype
    if one.rule in ("packed", "gptq", "awq"):
        return f"INT{one.numbers.get('bits', 4)}"
    return one.rule.split("-")[0].upper()
