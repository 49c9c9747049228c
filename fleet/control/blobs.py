"""A content-addressed folder: a file is there under its sha256, whole, or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeward.errors import IntegrityError, UsageError
from edgeward.runtimes.bundle.durable import sync

from .problems import FullError, TooLargeError

_DIGEST = re.compile(r"[0-9a-f]{64}")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_UPLOADS = "uploads"


class Blobs:
    """Files by digest below `root`; `quota_bytes` bounds all of them together."""

    def __init__(self, root: Path, quota_bytes: int | None = None) -> None:
        self.root = root
        self.quota_bytes = quota_bytes
        self._lock = threading.Lock()
        self._used = 0
        uploads = root / _UPLOADS
        uploads.mkdir(parents=True, exist_ok=True)
        for left_over in uploads.iterdir():
            left_over.unlink(missing_ok=True)
        if quota_bytes is not None:
            self._used = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())

    def path(self, digest: str) -> Path | None:
        """Return where a blob lies, or None where it is not there."""
        at = self._place(digest)
        return at if at.is_file() else None

    def size(self, digest: str) -> int | None:
        """Return a blob's size in bytes, or None where it is not there."""
        try:
            return self._place(digest).stat().st_size
        except FileNotFoundError:
            return None

    def put(self, digest: str, pieces: Iterable[bytes], limit: int | None = None) -> int:
        """Store what `pieces` yield once its sha256 is `digest`; return its size.

        Raises IntegrityError where it is not, FullError where it does not fit, TooLargeError
        above `limit` bytes. Whatever goes wrong, nothing appears under the digest.
        """
        upload = self.receive(digest, limit)
        try:
            for piece in pieces:
                upload.write(piece)
            upload.finish()
        finally:
            upload.abort()
        return upload.size

    def receive(self, digest: str, limit: int | None = None) -> Upload:
        """Begin an upload; its `abort` has to be called in the end, finished or not."""
        place = self._place(digest)
        temporary = self.root / _UPLOADS / f"{digest}.{secrets.token_hex(8)}"
        with refusing_when_full():
            return Upload(self, digest, temporary, place, limit)

    def reserve(self, size: int) -> None:
        """Count `size` more bytes; FullError above the quota."""
        with self._lock:
            if self.quota_bytes is not None and self._used + size > self.quota_bytes:
                raise _full(f"the quota is {self.quota_bytes} bytes")
            self._used += size

    def give_back(self, size: int) -> None:
        """Count `size` fewer bytes."""
        with self._lock:
            self._used -= size

    def _place(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise UsageError("Not a sha256", why="64 hexadecimal digits in lower case")
        return self.root / digest[:2] / digest


class Upload:
    """One file on its way in: written, hashed and counted as it comes."""

    def __init__(
        self, blobs: Blobs, digest: str, temporary: Path, place: Path, limit: int | None
    ) -> None:
        self.size = 0
        self._blobs = blobs
        self._digest = digest
        self._temporary = temporary
        self._place = place
        self._limit = limit
        self._reserved = 0
        self._sha256 = hashlib.sha256()
        self._file = temporary.open("xb")

    def write(self, piece: bytes) -> None:
        """Take the next bytes; FullError where they do not fit, TooLargeError above the limit."""
        if self._limit is not None and self.size + len(piece) > self._limit:
            raise TooLargeError("The file is too large", why=f"at most {self._limit} bytes")
        self._blobs.reserve(len(piece))
        self._reserved += len(piece)
        with refusing_when_full():
            self._file.write(piece)
        self._sha256.update(piece)
        self.size += len(piece)

    def finish(self) -> None:
        """Publish the file; IntegrityError where it is not what was named."""
        if self._sha256.hexdigest() != self._digest:
            raise IntegrityError(
                "The file is not what its name says",
                why=f"sha256 of the {self.size} bytes that came is {self._sha256.hexdigest()}",
            )
        with refusing_when_full():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._place.parent.mkdir(exist_ok=True)
            is_new = not self._place.exists()
            self._temporary.replace(self._place)
            sync(self._place.parent)
        if is_new:
            self._reserved = 0

    def abort(self) -> None:
        """Leave nothing behind but what `finish` published."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._temporary.unlink(missing_ok=True)
        self._blobs.give_back(self._reserved)
        self._reserved = 0


@contextmanager
def refusing_when_full() -> Iterator[None]:
    """Turn a full disk into words."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise _full("the disk is full") from None


def _full(why: str) -> FullError:
    return FullError(
        "The controller cannot store the file", why=why, next="df -h FLEET_HOME, or a larger disk"
    )
