"""The model's own files that travel with a graph."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def copy_assets(folder: Path, assets: Path, names: Sequence[str], tokenizer: Any) -> None:
    """Copy the model's own files as they are.

    A tokenizer.json that is missing, or that transformers reads in its own way (some classes put a
    normaliser of their own in its place), is written as transformers has it.
    """
    for name in names:
        (assets / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, assets / name)
    if tokenizer is None:
        return
    packaged, backend = assets / "tokenizer.json", tokenizer.backend_tokenizer
    if not packaged.is_file() or _steps(packaged.read_text("utf-8")) != _steps(backend.to_str()):
        backend.save(str(packaged))


def _steps(tokenizer: str) -> Any:
    """What a tokenizer.json does to a text; padding and truncation are set by who runs it."""
    document = json.loads(tokenizer)
    return {**document, "padding": None, "truncation": None}
