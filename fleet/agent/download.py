"""Downloading one blob: ranges, resumed after any death, believed only by its digest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeward.errors import TransferError
from edgeward.runtimes.bundle.durable import sync
from edgeward.runtimes.bundle.read import sha256_of

from .answer import Answer, Asked, Verdict, judge
from .backoff import full_jitter
from .clock import Clock
from .fetch import Fetcher, Response

RANGE_BYTES = 2**20
SYNC_BYTES = 4 * 2**20
PROGRESS_BYTES = 64 * 1024
MAX_TRIES = 6
MAX_RESTARTS = 3
BACKOFF_BASE, BACKOFF_CAP = 0.5, 30.0


class _BadAnswerError(Exception):
    """An answer that was not taken; `restart` drops what was downloaded so far."""

    def __init__(self, why: str, *, restart: bool = False, wait: float | None = None) -> None:
        super().__init__(why)
        self.restart = restart
        self.wait = wait


@dataclass(slots=True)
class BlobDownload:
    """One blob on its way to `final`; `partial` and its ETag stay when it fails.

    `between` is called between ranges and while waiting: whatever it raises ends the download.
    """

    fetcher: Fetcher
    clock: Clock
    sha256: str
    size: int
    partial: Path
    final: Path
    between: Callable[[], None]
    _tries: int = 0
    _restarts: int = 0
    _progress: int = 0
    _unsynced: int = 0

    def run(self) -> None:
        """Download, check, rename; TransferError after bounded tries, OSError from the disk."""
        while True:
            descriptor = os.open(self.partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._fill(descriptor)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if sha256_of(self.partial) == self.sha256:
                break
            self._forget()
            self._failed(_BadAnswerError("what came has another sha256", restart=True))
        self.partial.chmod(0o444)
        self.partial.replace(self.final)
        self._etag_file.unlink(missing_ok=True)
        sync(self.final.parent)

    @property
    def _etag_file(self) -> Path:
        return self.partial.with_name(self.partial.name + ".etag")

    def _fill(self, descriptor: int) -> None:
        while (have := os.fstat(descriptor).st_size) != self.size:
            if have > self.size:
                self._truncate(descriptor, 0)
                continue
            self.between()
            try:
                self._range(descriptor, have)
            except _BadAnswerError as error:
                if error.restart:
                    self._truncate(descriptor, 0)
                self._failed(error)
            except TransferError as error:
                self._failed(_BadAnswerError(error.why or error.what))

    def _range(self, descriptor: int, have: int) -> None:
        asked = Asked(have, min(have + RANGE_BYTES, self.size), self.size, self._etag(have))
        headers = {"Range": f"bytes={asked.start}-{asked.stop - 1}"}
        if asked.etag is not None:
            headers["If-Range"] = asked.etag
        with self.fetcher.open(f"/v1/blobs/{self.sha256}", headers) as response:
            answer = judge(asked, response.status, response.headers, self.clock.now())
            if answer.verdict in (Verdict.RETRY, Verdict.RESTART):
                restart = answer.verdict is Verdict.RESTART
                raise _BadAnswerError(answer.why, restart=restart, wait=answer.retry_after)
            self._note_etag(response.headers.get("etag"))
            start = 0 if answer.verdict is Verdict.WHOLE else have
            self._take(descriptor, response, answer, start)

    def _take(self, descriptor: int, response: Response, answer: Answer, start: int) -> None:
        if start == 0:
            self._truncate(descriptor, 0)
        at, end = start, start + answer.length
        for chunk in response.chunks:
            if at + len(chunk) > end:
                self._truncate(descriptor, start)
                raise _BadAnswerError("the body is longer than it said")
            _write(descriptor, chunk, at)
            at += len(chunk)
            self._count(descriptor, len(chunk))
            if answer.verdict is Verdict.WHOLE:
                self.between()
        if at < end:
            raise _BadAnswerError("the body broke off")

    def _count(self, descriptor: int, written: int) -> None:
        self._progress += written
        self._unsynced += written
        if self._progress >= PROGRESS_BYTES:
            self._progress, self._tries = 0, 0
        if self._unsynced >= SYNC_BYTES:
            self._unsynced = 0
            os.fsync(descriptor)

    def _failed(self, error: _BadAnswerError) -> None:
        self._tries += 1
        self._restarts += error.restart
        if self._tries >= MAX_TRIES or self._restarts >= MAX_RESTARTS:
            raise TransferError(
                f"The blob {self.sha256[:12]} did not come through",
                why=f"{error}; {self._tries} tries without progress, {self._restarts} restarts",
            ) from None
        wait = full_jitter(self._tries, BACKOFF_BASE, BACKOFF_CAP)
        for pause in _pauses((error.wait or 0.0) + wait):
            self.between()
            self.clock.sleep(pause)

    def _truncate(self, descriptor: int, size: int) -> None:
        os.ftruncate(descriptor, size)

    def _forget(self) -> None:
        self.partial.unlink(missing_ok=True)
        self._etag_file.unlink(missing_ok=True)

    def _etag(self, have: int) -> str | None:
        if have == 0:
            return None
        try:
            text = self._etag_file.read_text(encoding="ascii")
        except (OSError, ValueError):
            return None
        return text if text.isprintable() and len(text) <= 256 else None

    def _note_etag(self, etag: str | None) -> None:
        if etag is None or etag.startswith("W/") or len(etag) > 256 or not etag.isascii():
            self._etag_file.unlink(missing_ok=True)
        elif self._etag(1) != etag:
            self._etag_file.write_text(etag, encoding="ascii")


def _write(descriptor: int, chunk: bytes, at: int) -> None:
    view = memoryview(chunk)
    while view:
        written = os.pwrite(descriptor, view, at)
        at += written
        view = view[written:]


def _pauses(seconds: float) -> Iterator[float]:
    while seconds > 0:
        yield min(seconds, 0.5)
        seconds -= 0.5
