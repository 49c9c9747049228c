"""Commands and snippets as documents show them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"\s+# .*$")


@dataclass(frozen=True)
class Snippet:
    """One command (`console`), or a whole block of another language."""

    language: str
    text: str


def documents() -> list[Path]:
    """Return every document of the project."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def snippets(text: str) -> list[Snippet]:
    """Return what a reader would type, in order."""
    found = []
    for language, block in _BLOCK.findall(text):
        if language != "console":
            found.append(Snippet(language, block))
            continue
        lines = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
        found += [Snippet("console", _COMMENT.sub("", line)) for line in lines]
    return found
