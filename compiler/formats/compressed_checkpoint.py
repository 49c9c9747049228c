"""The folder that vLLM, SGLang, TensorRT-LLM and transformers load, and what is told of it.

The original's config.json is kept as it is, but for what has changed: how the weights are stored.
transformers writes it in its newest wording, which engines with an older one do not read.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeward.compiler.reference_model import load_tokenizer
from edgeward.errors import StageError

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_TOKENIZER = "tokenizer.json"
MODELOPT_CONFIG = "hf_quant_config.json"
_SCALES = (".weight_scale", ".weight_scale_2")
_AXES = ["batch", "sequence"]


def stored_dtype(folder: Path) -> Any:
    """Return the torch dtype of what is not rounded: the original's own, bfloat16 for float32.

    Engines for these checkpoints compute in 16 bits.
    """
    import torch

    stated = _stated_dtype(json.loads((folder / CONFIG).read_text("utf-8")))
    return torch.float16 if stated == "float16" else torch.bfloat16


def write_checkpoint(folder: Path, saved: Path, assets: Path, files: Sequence[str]) -> None:
    """Put together what was saved of the weights and the original's own files, as they are.

    Engines read the tokenizer as they read the original's; the proof holds ours to its token ids.
    """
    for name in files:
        (assets / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, assets / name)
    if not (assets / _TOKENIZER).is_file():
        load_tokenizer(folder).backend_tokenizer.save(str(assets / _TOKENIZER))
    written = json.loads((saved / CONFIG).read_text("utf-8"))
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    config["quantization_config"] = written["quantization_config"]
    key = "torch_dtype" if "torch_dtype" in config else "dtype"
    config[key] = _stated_dtype(written)
    (assets / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")
    for name in weight_files(saved):
        (saved / name).rename(assets / name)
    if (saved / MODELOPT_CONFIG).is_file():
        (saved / MODELOPT_CONFIG).rename(assets / MODELOPT_CONFIG)


def weight_files(folder: Path) -> list[str]:
    """Return the weights' files, the one by which they are found first."""
    shards = sorted(path.name for path in folder.glob("model*.safetensors"))
    if not shards:
        raise StageError("no weights were written")
    return shards if shards == [WEIGHTS] else [INDEX, *shards]


def report(
    assets: Path, params: Mapping[str, Any], group: int | None, samples: Sequence[Any]
) -> dict[str, Any]:
    """Return the stage's answer: what was rounded, what was left as it was, and its size."""
    shapes = dict(_shapes(assets))
    rounded = sorted({n.removesuffix(s) for n in shapes for s in _SCALES if n.endswith(s)})
    matrices = {name.removesuffix(".weight") for name, shape in shapes.items() if len(shape) > 1}
    kept = sorted(matrices - set(rounded) - {n for n in matrices if n.endswith(_TENSOR_ENDS)})
    if not rounded:
        raise StageError("no layer was rounded", why="the model has no layers of the class Linear")
    size = sum((assets / name).stat().st_size for name in weight_files(assets))
    vocabulary = json.loads((assets / CONFIG).read_text("utf-8")).get("vocab_size", "vocabulary")
    texts = "\n".join(params["texts"]).encode()
    calibrated = {"calibration_sha256": hashlib.sha256(texts).hexdigest()} if samples else {}
    return {
        "inputs": [_port(name, "int64", _AXES) for name in ("input_ids", "attention_mask")],
        "outputs": [_port("logits", "float", [*_AXES, vocabulary])],
        "rounded": len(rounded),
        "kept": kept,
        "group_size": group,
        "files": weight_files(assets),
        **calibrated,
        "summary": f"{len(rounded)} layers rounded, {', '.join(kept)} left, {size / 2**20:.1f} MiB"
        + (f", groups of {group}" if group else ""),
    }


_TENSOR_ENDS = (
    *_SCALES,
    "_packed",
    "_shape",
    "_scale",
    "_zero_point",
    "_g_idx",
)


def _port(name: str, dtype: str, shape: list[Any]) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": shape}


def _shapes(assets: Path) -> Iterator[tuple[str, list[int]]]:
    from safetensors import safe_open

    for name in weight_files(assets):
        if name == INDEX:
            continue
        with safe_open(assets / name, framework="pt") as opened:
            for key in opened.keys():  # noqa: SIM118 - not a mapping
                yield key, opened.get_slice(key).get_shape()


def _stated_dtype(config: Mapping[str, Any]) -> str:
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")
