"""Writing a bundle: it is there whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeward.errors import BundleError, ManifestError, UnsafePathError, UsageError

from . import paths
from .canonical import parse
from .durable import sync_tree
from .manifest import MANIFEST_NAME, SIGNATURE_NAME, FileEntry, validate
from .read import MAX_MANIFEST_BYTES, open_bundle, sha256_of
from .replace import heal, replace_folder
from .scratch import scratch_folder

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class BundleWriter:
    """Collects a bundle's files in a temporary folder beside its final place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, source: Path) -> None:
        """Copy a file in under `name`; UnsafePathError where a bundle cannot have that name."""
        target = self._place(name)
        shutil.copyfile(source, target)

    def add_bytes(self, name: str, data: bytes) -> None:
        """Write a small file."""
        self._place(name).write_bytes(data)

    def files(self) -> list[FileEntry]:
        """Return the entries of everything added so far, by path."""
        found = sorted(p for p in self.folder.rglob("*") if p.is_file())
        return [self._entry(path) for path in found]

    def write_manifest(self, document: Mapping[str, Any]) -> None:
        """Check the document as any reader would and write it; ManifestError where it fails."""
        try:
            text = json.dumps(
                document, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False
            )
            data = (text + "\n").encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise ManifestError("The manifest is not JSON", why=str(error)) from None
        validate(parse(data, "manifest"))
        (self.folder / MANIFEST_NAME).write_bytes(data)

    def _entry(self, path: Path) -> FileEntry:
        name = path.relative_to(self.folder).as_posix()
        _refuse_unsafe(name)
        return FileEntry(path=name, size=path.stat().st_size, sha256=sha256_of(path))

    def _place(self, name: str) -> Path:
        _refuse_unsafe(name)
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


@contextmanager
def writing_bundle(destination: Path) -> Iterator[BundleWriter]:
    """Give a writer; on a clean exit fsync everything and rename it to `destination`.

    An exception, Ctrl-C or a kill leaves what was at `destination` before; the next writer sweeps
    what a killed one left beside it. Raises BundleError where the disk is full or the folder
    cannot be written, UsageError where something stands there that is not a bundle.
    """
    place = _place_of(destination)
    try:
        heal(place)
        _refuse_other_things(place)
        with scratch_folder(place) as temporary:
            yield BundleWriter(temporary)
            open_bundle(temporary, check="sizes")
            temporary.chmod(0o755)
            sync_tree(temporary)
            replace_folder(temporary, place)
    except OSError as error:
        raise _unwritable(destination, error) from error


def _place_of(destination: Path) -> Path:
    try:
        place = Path(os.path.realpath(destination))
    except ValueError as error:
        raise UsageError(f"No folder can be named {str(destination)!r}", why=str(error)) from None
    if not place.name:
        raise UsageError(f"{place} is not a bundle's place", next="name a folder below it")
    return place


def _refuse_unsafe(name: str) -> None:
    problem = paths.problem_with(name)
    if problem or name in (MANIFEST_NAME, SIGNATURE_NAME):
        why = problem or "the name is the bundle's own"
        raise UnsafePathError(f"A bundle cannot hold a file named {name!r}", why=why)


def _refuse_other_things(place: Path) -> None:
    """Replacing removes what was there: never anything but a bundle or an empty folder."""
    if not place.exists():
        return
    if place.is_dir() and (not any(place.iterdir()) or _looks_like_a_bundle(place)):
        return
    raise UsageError(
        f"{place} is there already and is not a bundle",
        why="writing the bundle would remove it",
        next="choose another folder",
    )


def _looks_like_a_bundle(place: Path) -> bool:
    """A damaged bundle may be replaced; other programs have a manifest.json too."""
    manifest = place / MANIFEST_NAME
    if manifest.is_symlink() or not manifest.is_file():
        return False
    with manifest.open("rb") as file:
        return b'"schema_version"' in file.read(MAX_MANIFEST_BYTES)


def _unwritable(destination: Path, error: OSError) -> BundleError:
    reason = error.strerror or str(error)
    about = f"{error.filename}: {reason}" if error.filename else reason
    full = error.errno in _NO_SPACE
    return BundleError(
        f"The bundle {destination} could not be written",
        why=about,
        next=f"df -h {destination.parent}" if full else "",
    )
