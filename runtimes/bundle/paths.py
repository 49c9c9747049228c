"""Which names a bundle's files may have: relative, portable, inside the folder."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

MAX_PATH = 512
MAX_PART = 200
_RESERVED = {"con", "prn", "aux", "nul", *(f"{p}{n}" for p in ("com", "lpt") for n in range(1, 10))}
_FORBIDDEN = set('\\:*?"<>|')


def problem_with(path: str) -> str | None:
    """Return why `path` may not stand in a bundle, or None where it may."""
    if not path or len(path) > MAX_PATH:
        return f"a path has 1 to {MAX_PATH} characters"
    if path.startswith("/"):
        return "the path is absolute"
    if any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in path):
        return "the path has control characters"
    if _FORBIDDEN & set(path):
        return "the path has characters that not every file system allows"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return "the path leaves the bundle or has an empty part"
        if len(part.encode()) > MAX_PART:
            return f"a part of the path is longer than {MAX_PART} bytes"
        if part.endswith((" ", ".")) or part.split(".")[0].lower() in _RESERVED:
            return "the path is not portable"
    return None


def collisions(paths: Iterable[str]) -> list[str]:
    """Return the paths that another one equals where case or normalisation is ignored,

    and those that another one would need as a folder.
    """
    seen: dict[str, str] = {}
    clashing: list[str] = []
    for path in paths:
        key = _folded(path)
        if key in seen:
            clashing.append(path)
        seen[key] = path
    folders = {"/".join(key.split("/")[:n]) for key in seen for n in range(1, key.count("/") + 1)}
    return clashing + [path for key, path in seen.items() if key in folders]


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()
