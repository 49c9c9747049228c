"""What a model is calibrated with or proved on, as data."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from edgeward.runtimes.bundle.canonical import digest

TEXTS, PICTURES, SOUNDS = "texts", "pictures", "sounds"
Line = str | tuple[str, str]


@dataclass(frozen=True, slots=True)
class GivenFile:
    """A picture or a sound; `label` is a picture's or sound's class, `words` what a sound says."""

    path: Path
    sha256: str
    label: str = ""
    words: str = ""


@dataclass(frozen=True, slots=True)
class GivenData:
    """A set of texts, or of files of one kind, in an order that its content alone decides."""

    kind: str
    texts: tuple[Line, ...] = ()
    files: tuple[GivenFile, ...] = ()

    @property
    def sha256(self) -> str:
        """The digest of the content: neither places nor names are part of it."""
        if self.kind == TEXTS:
            lines = [line if isinstance(line, str) else "\t".join(line) for line in self.texts]
            return hashlib.sha256("\n".join(lines).encode()).hexdigest()
        told = [[one.sha256, one.label, one.words] for one in self.files]
        return digest({"kind": self.kind, "files": told})
