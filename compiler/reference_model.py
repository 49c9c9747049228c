"""The original: the torch model in float32 and its own tokenizer, loaded once a worker."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from edgeward.errors import SourceError, UnsupportedError

FolderState = tuple[tuple[str, int, int], ...]


def load_model(folder: Path, auto_class: str = "AutoModel") -> Any:
    """Load the model in float32 for inference; SourceError where the weights do not fit it.

    `auto_class` is the name of transformers' class for the task.
    """
    return _load_model(folder, auto_class, _state_of(folder))


def load_another(folder: Path, auto_class: str = "AutoModel") -> Any:
    """Load the model as `load_model` does, anew: one that may be changed."""
    return _load_model.__wrapped__(folder, auto_class, ())


@functools.lru_cache(maxsize=1)
def _load_model(folder: Path, auto_class: str, _state: FolderState) -> Any:
    import torch
    import transformers

    try:
        model, info = getattr(transformers, auto_class).from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise SourceError(f"{folder} cannot be loaded", why=_first_line(error)) from error
    if info["mismatched_keys"]:
        name, stored, wanted = sorted(info["mismatched_keys"])[0]
        raise SourceError(
            f"{folder} has weights of other shapes than its config.json says",
            why=f"{name} is {tuple(stored)}, not {tuple(wanted)}",
        )
    missing = [name for name in info["missing_keys"] if not name.startswith("pooler.")]
    if missing:
        raise SourceError(
            f"{folder} lacks {len(missing)} of the model's weights",
            why=f"{missing[0]} and others would be random",
        )
    return model.eval()


def load_tokenizer(folder: Path) -> Any:
    """Load the original tokenizer; UnsupportedError where it has no fast form to package.

    It pads on the right whatever its settings say: an encoder with absolute positions gives a text
    padded on the left another vector than the text alone.
    """
    return _load_tokenizer(folder, _state_of(folder))


@functools.lru_cache(maxsize=1)
def _load_tokenizer(folder: Path, _state: FolderState) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise SourceError(f"{folder} has no tokenizer", why=_first_line(error)) from error
    tokenizer.padding_side = "right"
    if not tokenizer.is_fast:
        raise UnsupportedError(
            f"{type(tokenizer).__name__} has no fast form", why="a bundle carries tokenizer.json"
        )
    return tokenizer


def _state_of(folder: Path) -> FolderState:
    """What tells that a folder is still the one that was loaded."""
    found = ((path.name, path.stat()) for path in sorted(folder.iterdir()))
    return tuple((name, state.st_size, state.st_mtime_ns) for name, state in found)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:500]
