"""The journal: appended and fsynced before anything it announces is done.

One record a line, `crc32 length payload`: the length lets a record be read although its newline
is damaged, the newline lets reading go on behind damage. Whatever the file holds, reading it
yields the records that are whole and never raises.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from edgeward.runtimes.bundle.durable import sync

from .files import write_atomic

MAX_RECORD = 2**20
MAX_READ = 16 * 2**20
COMPACT_ABOVE = 2**20
KEEP = 8
_HEAD = re.compile(rb"([0-9a-f]{8}) ([0-9]{1,7}) ")


class Journal:
    """An append-only file of records; it compacts itself by an atomic rewrite."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size = -1

    def read(self) -> list[bytes]:
        """Return the whole records, oldest first; a damaged file is rewritten without its damage.

        Raises OSError only where the file system itself fails.
        """
        data = self._tail()
        records = list(_records(data))
        clean = b"".join(map(_framed, records))
        if clean != data:
            write_atomic(self.path, clean)
        self._size = len(clean)
        return records

    def append(self, record: bytes) -> None:
        """Write a record and fsync it; on OSError (disk full) nothing of it stays behind."""
        if not record or len(record) > MAX_RECORD or b"\n" in record:
            raise ValueError(f"a record is one line of 1 to {MAX_RECORD} bytes")
        if self._size < 0:
            self.read()
        if self._size > COMPACT_ABOVE:
            with suppress(OSError):
                self._compact()
        created = not self.path.exists()
        line = _framed(record)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._write(descriptor, line)
        finally:
            os.close(descriptor)
        self._size += len(line)
        if created:
            sync(self.path.parent)

    def _write(self, descriptor: int, line: bytes) -> None:
        try:
            written = 0
            while written < len(line):
                written += os.pwrite(descriptor, line[written:], self._size + written)
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, self._size)
            raise

    def _compact(self) -> None:
        kept = b"".join(map(_framed, list(_records(self._tail()))[-KEEP:]))
        write_atomic(self.path, kept)
        self._size = len(kept)

    def _tail(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(max(0, size - MAX_READ))
                return file.read(MAX_READ)
        except FileNotFoundError:
            return b""


def _framed(record: bytes) -> bytes:
    return b"%08x %d %b\n" % (zlib.crc32(record), len(record), record)


def _records(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        record, end = _record_at(data, at)
        if record is not None:
            yield record
            at = end
            continue
        newline = data.find(b"\n", at)
        at = len(data) if newline < 0 else newline + 1


def _record_at(data: bytes, at: int) -> tuple[bytes | None, int]:
    head = _HEAD.match(data, at)
    if head is None:
        return None, at
    length = int(head[2])
    record = data[head.end() : head.end() + length]
    whole = 0 < length == len(record) <= MAX_RECORD and b"\n" not in record
    if not whole or zlib.crc32(record) != int(head[1], 16):
        return None, at
    return record, head.end() + length + 1
