"""A model's folder as the converter is shown it: data alone, under the model's own name.

The converter names the model after the folder, reads whatever weights lie there, and lets a
tokenizer's own code run. What it sees is what was checked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeward.errors import SourceError
from edgeward.runtimes.bundle.read import sha256_of

_INDEX, _WHOLE = "model.safetensors.index.json", "model.safetensors"
_TOKENIZER_SETTINGS = "tokenizer_config.json"
# What the converter reads beside the files that travel with a bundle.
_EXTRAS = (
    "README.md",
    "hf_quant_config.json",
    "params.json",
    "rwkv_vocab_v20230424.txt",
    "tekken.json",
    "tokenizer.jsonl",
    "tokenizer.model",
    "tokenizer.model.v3",
)
_STORED = {"F16": "f16", "BF16": "bf16"}
_LONGEST_HEADER = 256 << 20


def extras_of(folder: Path) -> dict[str, str]:
    """Return the digests of what else decides about the file, by name."""
    return {name: sha256_of(folder / name) for name in _EXTRAS if (folder / name).is_file()}


def link_view(folder: Path, view: Path, files: Sequence[str], extras: Mapping[str, str]) -> None:
    """Fill the folder `view` with a model's weights, the files that travel with it and its extras.

    Raises SourceError where one of the extras is not what it was when the stage's key was made.
    """
    view.mkdir(parents=True)
    home = folder.resolve()
    index = [_INDEX] if (home / _INDEX).is_file() else []
    for name in [*index, *weight_files(home), *files]:
        place = view / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(home / name)
    for name, sha256 in extras.items():
        content = (home / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise SourceError(f"{folder / name} was changed while it was read")
        (view / name).write_bytes(content)
    _hide_code(view / _TOKENIZER_SETTINGS)


def weight_files(folder: Path) -> list[str]:
    """Return the names of the files that hold a checked folder's weights."""
    index = folder / _INDEX
    if not index.is_file():
        return [_WHOLE]
    return sorted(set(json.loads(index.read_bytes())["weight_map"].values()))


def stored_type(folder: Path) -> str:
    """Return what holds every weight without loss: f16, bf16, or f32 where it is neither alone."""
    found = {kind for name in weight_files(folder) for kind in _types(folder / name)}
    return _STORED.get(found.pop(), "f32") if len(found) == 1 else "f32"


def _hide_code(place: Path) -> None:
    """A tokenizer's settings may name code to run, and the converter would run it."""
    if not place.is_file():
        return
    settings = json.loads(place.read_bytes())
    if "auto_map" in settings:
        place.unlink()
        del settings["auto_map"]
        place.write_text(json.dumps(settings), encoding="utf-8")


def _types(path: Path) -> Iterator[str]:
    """The types of a safetensors file's matrices: vectors are float32 in a GGUF anyway."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _LONGEST_HEADER:
            raise SourceError(f"{path.name} has a header of {size} bytes")
        header: dict[str, Any] = json.loads(file.read(size))
    for name, tensor in header.items():
        if name != "__metadata__" and len(tensor["shape"]) > 1:
            yield str(tensor["dtype"])
