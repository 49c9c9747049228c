"""From token vectors to sentence vectors, as the model's own sentence-transformers files say.

The folder's `modules.json` names the steps (Transformer, Pooling, Dense, Normalize) and each
step's folder holds its settings; a model without these files is pooled by the mean.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import SourceError, UnsupportedError
from edgeward.runtimes.bundle.paths import problem_with

from .weights import read_weights

Floats = NDArray[np.float32]
Mask = NDArray[np.int64]
Step = Callable[[Floats], Floats]

_TINY = np.float32(1e-12)
_MAX_SETTINGS_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Pipeline:
    """How the token vectors of a batch become one vector a text."""

    modes: tuple[str, ...] = ("mean",)
    steps: tuple[Step, ...] = ()
    max_tokens: int | None = None
    lower_case: bool = False
    prompts: dict[str, str] | None = None
    default_prompt: str | None = None
    described: str = "mean (no sentence-transformers files)"

    def __call__(self, tokens: Floats, mask: Mask) -> Floats:
        """Pool `tokens` (batch, sequence, hidden) under `mask` (batch, sequence)."""
        pooled = [POOLING[mode](tokens, mask) for mode in self.modes]
        vectors = pooled[0] if len(pooled) == 1 else np.concatenate(pooled, axis=1)
        for step in self.steps:
            vectors = step(vectors)
        return vectors


def mean(tokens: Floats, mask: Mask) -> Floats:
    """Average of the real tokens."""
    summed, count = _masked_sum(tokens, mask)
    averaged: Floats = summed / np.maximum(count, _TINY)
    return averaged


def mean_sqrt_len(tokens: Floats, mask: Mask) -> Floats:
    """Sum of the real tokens over the square root of their number."""
    summed, count = _masked_sum(tokens, mask)
    averaged: Floats = summed / np.sqrt(np.maximum(count, _TINY))
    return averaged


def weighted_mean(tokens: Floats, mask: Mask) -> Floats:
    """Average weighted by position among the real tokens, the last one most."""
    weights = (mask * np.cumsum(mask, axis=1)).astype(np.float32)
    summed = np.matmul(weights[:, None, :], tokens)[:, 0, :]
    count = weights.sum(axis=1, keepdims=True)
    return np.asarray(summed / np.maximum(count, _TINY), np.float32)


def largest(tokens: Floats, mask: Mask) -> Floats:
    """Greatest value of each dimension over the real tokens."""
    hidden = np.where(mask[:, :, None].astype(bool), tokens, np.float32(-1e9))
    return np.asarray(hidden.max(axis=1))


def first_token(tokens: Floats, mask: Mask) -> Floats:
    """The first real token, CLS in BERT's family, wherever the padding stands."""
    return np.asarray(tokens[np.arange(len(tokens)), mask.argmax(axis=1)])


def last_token(tokens: Floats, mask: Mask) -> Floats:
    """The last real token."""
    last = mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)
    return np.asarray(tokens[np.arange(len(tokens)), last])


def normalize(vectors: Floats) -> Floats:
    """Scale every vector to length 1."""
    length = np.sqrt(np.add.reduce(vectors * vectors, axis=1, keepdims=True))
    unit: Floats = vectors / np.maximum(length, _TINY)
    return unit


POOLING: dict[str, Callable[[Floats, Mask], Floats]] = {
    "cls": first_token,
    "mean": mean,
    "max": largest,
    "mean_sqrt_len_tokens": mean_sqrt_len,
    "weightedmean": weighted_mean,
    "lasttoken": last_token,
}
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_ACTIVATIONS: dict[str, Step] = {
    "Identity": lambda x: x,
    "Tanh": lambda x: np.tanh(x),
    "ReLU": lambda x: np.maximum(x, 0),
    "Sigmoid": lambda x: np.asarray(1 / (1 + np.exp(-x)), np.float32),
}


def read_pipeline(folder: Path) -> Pipeline:
    """Read the steps from a model's or bundle's folder.

    Raises SourceError where a file is damaged, UnsupportedError where a step is unknown.
    """
    listing = folder / "modules.json"
    if not listing.is_file():
        return Pipeline()
    modules = read_json(listing)
    if not isinstance(modules, list):
        raise SourceError(f"{listing} is not a list of modules")
    modes: tuple[str, ...] = ()
    steps: list[Step] = []
    names: list[str] = []
    for module in modules:
        kind, at = _module(module, folder, listing)
        names.append(kind)
        if kind == "Pooling":
            modes = _pooling_modes(at / "config.json")
            names[-1] = "+".join(modes)
        elif kind == "Normalize":
            steps.append(normalize)
        elif kind == "Dense":
            steps.append(_dense(at))
        elif kind not in ("Transformer", "Dropout"):
            raise UnsupportedError(
                f"The sentence-transformers module {kind!r} is not supported",
                why="supported: Transformer, Pooling, Dense, Normalize, Dropout",
            )
    prompts, default = _prompts(folder / "config_sentence_transformers.json")
    limits = _optional_object(folder / "sentence_bert_config.json")
    return Pipeline(
        modes=modes or ("mean",),
        steps=tuple(steps),
        max_tokens=_positive(limits.get("max_seq_length")),
        lower_case=limits.get("do_lower_case") is True,
        prompts=prompts,
        default_prompt=default,
        described=" > ".join(names),
    )


def required_files(folder: Path) -> list[str]:
    """Return the sentence-transformers files that must travel with the model."""
    listing = folder / "modules.json"
    if not listing.is_file():
        return []
    read_pipeline(folder)
    wanted = ["modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"]
    modules: list[Any] = read_json(listing)
    for module in modules:
        _, at = _module(module, folder, listing)
        if at == folder or not at.is_dir():
            continue
        names = ("config.json", "model.safetensors")
        wanted += [(at / name).relative_to(folder).as_posix() for name in names]
    return [name for name in wanted if (folder / name).is_file()]


def read_json(path: Path) -> Any:
    """Read a small JSON file of a model; SourceError where it is not one."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_SETTINGS_BYTES + 1)
        if len(data) > _MAX_SETTINGS_BYTES:
            raise ValueError(f"larger than {_MAX_SETTINGS_BYTES} bytes")
        return json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{path} cannot be read", why=str(error)) from None


def _optional_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    document = read_json(path)
    if not isinstance(document, dict):
        raise SourceError(f"{path} is not a JSON object")
    return document


def _module(module: Any, folder: Path, listing: Path) -> tuple[str, Path]:
    if not isinstance(module, dict) or not isinstance(module.get("type"), str):
        raise SourceError(f"{listing} has a module without a type")
    part = module.get("path", "")
    inside = PurePosixPath(part).as_posix() if isinstance(part, str) else ""
    problem = None if inside == "." else problem_with(inside)
    if problem:
        raise SourceError(f"{listing} has a module outside the folder", why=problem)
    return module["type"].rsplit(".", 1)[-1], folder / inside


def _pooling_modes(path: Path) -> tuple[str, ...]:
    settings = _optional_object(path)
    named = settings.get("pooling_mode")
    if isinstance(named, (str, list)):
        modes = tuple(str(name) for name in ([named] if isinstance(named, str) else named))
    else:
        modes = tuple(mode for flag, mode in _FLAGS.items() if settings.get(flag) is True)
    unknown = [mode for mode in modes if mode not in POOLING]
    if unknown or not modes:
        raise UnsupportedError(
            f"{path} asks for the pooling {unknown or 'none'}",
            why=f"supported: {', '.join(POOLING)}",
        )
    return modes


def _dense(folder: Path) -> Step:
    settings = _optional_object(folder / "config.json")
    name = str(settings.get("activation_function", "Identity")).rsplit(".", 1)[-1]
    if name not in _ACTIVATIONS:
        raise UnsupportedError(f"The activation {name!r} of {folder.name} is not supported")
    weights = read_weights(folder / "model.safetensors")
    if "linear.weight" not in weights:
        raise SourceError(f"{folder} has no weights named linear.weight")
    matrix = weights["linear.weight"].T
    bias = weights.get("linear.bias", np.zeros(matrix.shape[-1:], np.float32))
    if matrix.ndim != 2 or bias.shape != matrix.shape[1:]:
        raise SourceError(f"{folder} has weights of shapes {matrix.T.shape} and {bias.shape}")
    activation = _ACTIVATIONS[name]

    def dense(vectors: Floats) -> Floats:
        if vectors.shape[1] != len(matrix):
            raise SourceError(f"{folder} takes {len(matrix)} dimensions, not {vectors.shape[1]}")
        return activation(vectors @ matrix + bias)

    return dense


def _prompts(path: Path) -> tuple[dict[str, str] | None, str | None]:
    settings = _optional_object(path)
    prompts, default = settings.get("prompts"), settings.get("default_prompt_name")
    if not isinstance(prompts, dict):
        return None, None
    usable = {k: v for k, v in prompts.items() if isinstance(k, str) and isinstance(v, str)}
    return usable, default if isinstance(default, str) and default in usable else None


def _positive(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 < value < 2**31 else None


def _masked_sum(tokens: Floats, mask: Mask) -> tuple[Floats, Floats]:
    weights = mask.astype(np.float32)
    summed = np.matmul(weights[:, None, :], tokens)[:, 0, :]
    return summed, np.add.reduce(weights, axis=1, keepdims=True)
