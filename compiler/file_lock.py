"""Locks between processes, which the kernel releases when their holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType


class FileLock:
    """An advisory lock on a file (`flock`), exclusive or shared.

    The file may be unlinked by a sweeper between open and lock: a lock counts only while its path
    still names the locked file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def acquire(self, *, shared: bool = False, on_wait: Callable[[], None] | None = None) -> None:
        """Lock, waiting as long as it takes; `on_wait` is called once when there is a wait."""
        if self.try_acquire(shared=shared):
            return
        if on_wait is not None:
            on_wait()
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        while not self._lock(kind):
            continue

    def try_acquire(self, *, shared: bool = False) -> bool:
        """Lock and return True, or return False at once where somebody else holds it."""
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            while not self._lock(kind | fcntl.LOCK_NB):
                continue
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Unlock; harmless when not locked."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def discard(self) -> None:
        """Remove the file while it is held, then unlock."""
        self.path.unlink(missing_ok=True)
        self.release()

    def fileno(self) -> int:
        """Return the locked descriptor, to be inherited by a process that keeps the lock alive.

        Raises ValueError when not locked.
        """
        if self._fd is None:
            raise ValueError(f"{self.path} is not locked")
        return self._fd

    def __enter__(self) -> FileLock:
        """Lock exclusively unless it is locked already."""
        if self._fd is None:
            self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Unlock."""
        self.release()

    def _lock(self, kind: int) -> bool:
        self.release()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, kind)
            if not _same_file(fd, self.path):
                os.close(fd)
                return False
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        return True


def _same_file(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
