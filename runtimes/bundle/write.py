"""Writing a bundle: it is there whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeward.errors import BundleError

from .manifest import MANIFEST_NAME, FileEntry, validate
from .read import Bundle, open_bundle, sha256_of


class BundleWriter:
    """Collects a bundle's files in a temporary folder beside its final place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, source: Path) -> None:
        """Copy a file in under `name`."""
        target = self._place(name)
        shutil.copyfile(source, target)

    def add_bytes(self, name: str, data: bytes) -> None:
        """Write a small file."""
        self._place(name).write_bytes(data)

    def files(self) -> list[FileEntry]:
        """Return the entries of everything added so far, by path."""
        found = sorted(p for p in self.folder.rglob("*") if p.is_file())
        return [
            FileEntry(
                path=path.relative_to(self.folder).as_posix(),
                size=path.stat().st_size,
                sha256=sha256_of(path),
            )
            for path in found
        ]

    def write_manifest(self, document: Mapping[str, Any]) -> None:
        """Check the document as any reader would and write it."""
        validate(document)
        text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        (self.folder / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")

    def _place(self, name: str) -> Path:
        FileEntry(path=name, size=0, sha256="0" * 64)
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


@contextmanager
def writing_bundle(destination: Path) -> Iterator[BundleWriter]:
    """Give a writer; on a clean exit fsync everything and rename it to `destination`.

    An exception, Ctrl-C included, leaves what was at `destination` before and nothing else.
    Raises BundleError where the disk is full or the folder cannot be written.
    """
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(
            tempfile.mkdtemp(prefix=f".{destination.name}.partial-", dir=destination.parent)
        )
    except OSError as error:
        raise _unwritable(destination, error) from None
    try:
        yield BundleWriter(temporary)
        open_bundle(temporary, check="sizes")
        temporary.chmod(0o755)
        sync_tree(temporary)
        replace_folder(temporary, destination)
    except OSError as error:
        raise _unwritable(destination, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sync_tree(folder: Path) -> None:
    """Fsync every file and folder below `folder`, and `folder` itself."""
    for at, _, names in os.walk(folder, topdown=False):
        for name in names:
            _sync(Path(at) / name)
        _sync(Path(at))


def replace_folder(new: Path, destination: Path) -> None:
    """Rename `new` to `destination`, moving what stood there out of the way first."""
    old = new.with_name(new.name + ".old")
    if destination.exists():
        destination.rename(old)
    try:
        new.rename(destination)
    except BaseException:
        if old.exists():
            old.rename(destination)
        raise
    _sync(destination.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(destination: Path, error: OSError) -> BundleError:
    return BundleError(
        f"The bundle {destination} could not be written",
        why=error.strerror or str(error),
        next="df -h " + str(destination.parent),
    )


__all__ = ["Bundle", "BundleWriter", "replace_folder", "sync_tree", "writing_bundle"]
