"""What `--data FILE` gives a workload: texts, or one sound or picture."""

from __future__ import annotations

import json
from pathlib import Path

from edgeward.errors import UsageError

MAX_BYTES = 256 * 2**20
_TEXTS = (".txt", ".jsonl")
_KEYS = ("text", "prompt", "question", "sentence")


def read_texts(path: Path) -> list[str]:
    """Return the lines of a .txt file or the texts of a .jsonl file's objects, without empty ones.

    Raises UsageError where the file cannot be read or holds no text.
    """
    if path.suffix not in _TEXTS:
        raise UsageError(f"{path} holds no texts", why="this bundle reads a .txt or .jsonl file")
    try:
        lines = read_bytes(path).decode("utf-8").splitlines()
        texts = [_told(line) if path.suffix == ".jsonl" else line for line in lines if line.strip()]
    except ValueError as error:
        raise UsageError(f"{path} cannot be read", why=str(error)[:200]) from None
    if not texts:
        raise UsageError(f"{path} holds no text")
    return texts


def read_bytes(path: Path) -> bytes:
    """Return a file's content; UsageError where it cannot be read or is too large."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read", why=error.strerror or str(error)) from None
    if len(content) > MAX_BYTES:
        raise UsageError(f"{path} is larger than {MAX_BYTES} bytes")
    return content


def _told(line: str) -> str:
    document = json.loads(line)
    if isinstance(document, str):
        return document
    if isinstance(document, dict):
        for key in _KEYS:
            if isinstance(document.get(key), str):
                return str(document[key])
    raise ValueError(f"a line has none of: {', '.join(_KEYS)}")
