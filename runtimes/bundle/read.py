"""Reading a bundle: nothing in it is believed before it was checked."""

from __future__ import annotations

import errno
import hashlib
import os
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from edgeward.errors import BundleError, IntegrityError, ManifestError, UnsafePathError

from .canonical import parse
from .manifest import (
    MANIFEST_NAME,
    SIGNATURE_NAME,
    FileEntry,
    Manifest,
    manifest_digest,
    validate,
)
from .paths import MAX_PATH
from .replace import set_aside

MAX_MANIFEST_BYTES = 16 * 2**20
_CHUNK = 2**20

Depth = Literal["sizes", "digests"]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that passed its checks: its folder, its manifest, the digest that names it."""

    path: Path
    manifest: Manifest
    digest: str

    @property
    def entry(self) -> Path:
        """The file that the engine loads."""
        return self.path / self.manifest.entry

    def file(self, name: str) -> Path | None:
        """Return the path of a listed file, or None where the manifest does not list it."""
        listed = any(file.path == name for file in self.manifest.files)
        return self.path / name if listed else None


def open_bundle(path: Path | str, *, check: Depth = "digests") -> Bundle:
    """Read and check the bundle at `path`.

    `check="sizes"` skips the digests, for a bundle that this machine verified before.
    Raises ManifestError, UnsafePathError or IntegrityError, each with the file and the reason.
    """
    root = Path(path)
    _refuse_missing(root)
    document = parse(_read_manifest(root), "manifest")
    manifest = validate(document)
    _refuse_unlisted(root, manifest)
    for entry in manifest.files:
        check_file(root, entry, check)
    return Bundle(root, manifest, manifest_digest(document))


def check_file(root: Path, entry: FileEntry, check: Depth = "digests") -> None:
    """Hold one file against its manifest entry: no links, right size, right digest."""
    _refuse_links(root, entry.path)
    try:
        with _opened(root / entry.path) as file:
            size = os.fstat(file.fileno()).st_size
            is_same = check == "sizes" or (size == entry.size and sha256_of(file) == entry.sha256)
    except FileNotFoundError:
        raise IntegrityError(f"{entry.path} is missing from the bundle", why=f"in {root}") from None
    except OSError as error:
        raise IntegrityError(f"{entry.path} cannot be read", why=str(error)) from None
    if size != entry.size:
        raise IntegrityError(
            f"{entry.path} has {size} bytes, the manifest says {entry.size}",
            why="truncated or replaced",
        )
    if not is_same:
        raise IntegrityError(
            f"{entry.path} is not the file that the manifest names",
            why="its sha256 differs: damaged or replaced",
        )


def sha256_of(file: BinaryIO | Path | str) -> str:
    """Return the sha256 of an open binary file, or of the file at a path."""
    if isinstance(file, (str, Path)):
        with Path(file).open("rb") as opened:
            return sha256_of(opened)
    running = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        running.update(chunk)
    return running.hexdigest()


def _refuse_missing(root: Path) -> None:
    try:
        is_folder, is_there = root.is_dir(), root.exists()
        left = set_aside(root) if root.name and not is_there else None
        interrupted = left is not None and left.is_dir()
    except (OSError, ValueError) as error:
        raise BundleError(f"No bundle at {str(root)[:200]}", why=str(error)[:300]) from None
    if is_folder:
        return
    if interrupted:
        raise BundleError(
            f"No bundle at {root}",
            why=f"a writer was killed while replacing it; the one before is at {left}",
            next=f"mv {shlex.quote(str(left))} {shlex.quote(str(root))}",
        )
    raise BundleError(
        f"No bundle at {root}",
        why="it is not a folder" if is_there else "there is no such folder",
        next="edgeward compile MODEL --target NAME -o FOLDER",
    )


def _read_manifest(root: Path) -> bytes:
    path = root / MANIFEST_NAME
    try:
        with _opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(MAX_MANIFEST_BYTES + 1) if size <= MAX_MANIFEST_BYTES else b""
    except FileNotFoundError:
        raise ManifestError(f"{root} has no {MANIFEST_NAME}", why="so it is not a bundle") from None
    except OSError as error:
        raise ManifestError(f"{path} cannot be read", why=error.strerror or str(error)) from None
    if max(size, len(data)) > MAX_MANIFEST_BYTES:
        raise ManifestError(
            f"{path} is larger than {MAX_MANIFEST_BYTES // 2**20} MiB",
            why="no manifest is: it is not read",
        )
    return data


def _opened(path: Path) -> BinaryIO:
    """Open a regular file, nothing that a link, a device or a pipe puts in its place."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return os.fdopen(descriptor, "rb")


def _refuse_links(root: Path, name: str) -> None:
    at = root
    for part in name.split("/"):
        at = at / part
        try:
            mode = at.lstat().st_mode
        except OSError:
            return
        if stat.S_ISLNK(mode):
            raise UnsafePathError(f"{name} is or passes a symbolic link", why=str(at))
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise UnsafePathError(f"{name} is not a regular file", why=str(at))


def _refuse_unlisted(root: Path, manifest: Manifest) -> None:
    listed = {file.path for file in manifest.files} | {MANIFEST_NAME, SIGNATURE_NAME}
    for name in _walk(root):
        if name not in listed:
            raise IntegrityError(
                f"{name[:MAX_PATH]} is in the bundle but not in its manifest",
                why="something was added after it was made",
            )


def _walk(root: Path) -> Iterator[str]:
    """A loop, not a recursion: folders may be nested deeper than Python's stack."""
    waiting = [""]
    while waiting:
        for entry in _entries(root, waiting.pop()):
            name = Path(entry.path).relative_to(root).as_posix()
            if entry.is_dir(follow_symlinks=False):
                waiting.append(name)
            elif entry.is_symlink():
                raise UnsafePathError(f"{name} is a symbolic link", why=f"in {root}")
            else:
                yield name


def _entries(root: Path, folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(root / folder) as entries:
            return list(entries)
    except OSError as error:
        where = f"{(folder or str(root))[:200]} cannot be listed"
        raise IntegrityError(where, why=error.strerror or "") from None
