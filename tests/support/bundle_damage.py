"""Changing a bundle behind its manifest's back, or with it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeward.runtimes.bundle.manifest import MANIFEST_NAME
from edgeward.runtimes.bundle.read import Bundle

Edit = Callable[[dict[str, Any]], object]


def copy_of(bundle: Bundle, destination: Path) -> Path:
    """Copy a bundle so that it can be damaged."""
    return Path(shutil.copytree(bundle.path, destination))


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest's document as it stands there, unchecked."""
    document: dict[str, Any] = json.loads((folder / MANIFEST_NAME).read_text())
    return document


def write_manifest(folder: Path, document: object) -> None:
    """Put a document in the manifest's place, unchecked."""
    (folder / MANIFEST_NAME).write_text(json.dumps(document))


def edit_manifest(folder: Path, edit: Edit) -> None:
    """Let `edit` change the manifest's document in place."""
    document = read_manifest(folder)
    edit(document)
    write_manifest(folder, document)


def replace_file(folder: Path, name: str, data: bytes) -> None:
    """Write a file and repair its size and digest in the manifest, as a forger would."""
    (folder / name).write_bytes(data)

    def repair(document: dict[str, Any]) -> None:
        entry = next(entry for entry in document["files"] if entry["path"] == name)
        entry.update(size=len(data), sha256=hashlib.sha256(data).hexdigest())

    edit_manifest(folder, repair)
