"""A source that is no plain float model yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Packed:
    """What has to be dequantised first, as it was found.

    `types` counts tensors by their type, `float_bytes` is what they take in floats. `folder` has
    the configuration that the plain model will have. `beside` is a folder whose small files are
    taken over, `files` those of `folder` that are.
    """

    format: str
    paths: tuple[Path, ...]
    sha256: str
    types: Mapping[str, int]
    float_bytes: int
    folder: Path
    beside: Path | None = None
    beside_sha256: str = ""
    license: str = ""
    files: tuple[str, ...] = ()
