"""Read the kernel's small files under a root, which a test may replace by a captured tree."""

from __future__ import annotations

from pathlib import Path

MAX_BYTES = 1024 * 1024


def read_text(root: Path, path: str) -> str | None:
    """Return a file's text without surrounding space and NULs, or None if it cannot be read."""
    try:
        with (root / path).open("rb") as file:
            data = file.read(MAX_BYTES)
    except OSError:
        return None
    return data.decode("utf-8", errors="replace").strip("\0 \t\r\n")


def read_int(root: Path, path: str) -> int | None:
    """Return a file's whole number, or None where there is none."""
    text = read_text(root, path)
    try:
        return int(text[:20]) if text else None
    except ValueError:
        return None


def clean(text: str | None, limit: int = 200) -> str | None:
    """Return one printable line of at most `limit` characters, or None where nothing is left."""
    if text is None:
        return None
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(shown.split())[:limit].strip() or None


def fields_of(text: str, separator: str = ":") -> dict[str, str]:
    """Return the first value of each `key : value` line."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, found_one, value = line.partition(separator)
        if found_one:
            found.setdefault(key.strip(), value.strip())
    return found
