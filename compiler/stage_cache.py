"""Finished stages on disk, addressed by their keys: whole, or not there."""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeward.errors import StageError
from edgeward.runtimes.bundle.durable import sync, sync_tree

from .file_lock import FileLock
from .folders import folder_size
from .stage import StageResult

_RECORD = "stage.json"
_OUT = "out"
_SCHEMA = 1
_MAX_RECORD_BYTES = 64 << 20
_UNFINISHED_SECONDS = 14 * 86400


@dataclass(frozen=True, slots=True)
class Draft:
    """A stage in the making: its folders and the lock that shows that its maker lives."""

    folder: Path
    lock: FileLock

    @property
    def out(self) -> Path:
        """Where the stage writes."""
        return self.folder / _OUT

    @property
    def scratch(self) -> Path:
        """Where its temporary files go; never kept."""
        return self.folder / "scratch"


class StageCache:
    """The folder `stages/`: `<key>/out/` with the files and `<key>/stage.json` with the record."""

    def __init__(self, root: Path) -> None:
        self.root = root / "stages"
        self._drafts = self.root / "drafts"
        self._locks = self.root / "locks"
        self._unfinished = self.root / "unfinished"

    def folder(self, key: str) -> Path:
        """Return where a key's entry is or would be."""
        return self.root / key

    def lock(self, key: str) -> FileLock:
        """Return the key's lock: shared while its entry is used, exclusive while it is made."""
        return FileLock(self._locks / f"{key}.lock")

    def load(self, key: str) -> StageResult | None:
        """Return the finished stage, None where it is missing or damaged.

        Damaged: an unreadable record, a file missing, added or of another size.
        """
        folder = self.folder(key)
        record = _read_record(folder / _RECORD)
        if record is None or record.get("key") != key:
            return None
        with suppress(OSError, KeyError, TypeError, ValueError, AttributeError, StageError):
            if record["files"] != _sizes(folder / _OUT):
                return None
            result = _result(folder / _OUT, record)
            os.utime(folder / _RECORD)
            return result
        return None

    def begin(self, key: str) -> Draft:
        """Make the folders of a new stage."""
        name = f"{key[:16]}-{uuid.uuid4().hex[:12]}"
        lock = FileLock(self._drafts / f"{name}.lock")
        lock.acquire()
        draft = Draft(self._drafts / name, lock)
        draft.out.mkdir(parents=True)
        draft.scratch.mkdir()
        return draft

    def unfinished(self, key: str) -> Path:
        """Return the folder of what a stage finished before it was interrupted, made where missing.

        The caller holds the key's lock exclusively.
        """
        folder = self._unfinished / key
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        return folder

    def commit(self, key: str, draft: Draft, record: Mapping[str, Any]) -> StageResult:
        """Make a draft the finished stage: sizes recorded, all fsynced, one rename.

        The caller holds the key's lock exclusively. Raises StageError for outputs that are links
        or special files.
        """
        shutil.rmtree(draft.scratch, ignore_errors=True)
        full = {**record, "schema": _SCHEMA, "key": key, "files": _sizes(draft.out)}
        (draft.folder / _RECORD).write_text(json.dumps(full, indent=1, allow_nan=False))
        sync_tree(draft.folder)
        final = self.folder(key)
        _remove(final)
        draft.folder.rename(final)
        sync(self.root)
        _remove(self._unfinished / key)
        draft.lock.discard()
        return _result(final / _OUT, full)

    def abandon(self, draft: Draft) -> None:
        """Remove a draft."""
        _remove(draft.folder)
        draft.lock.discard()

    def sweep(self) -> int:
        """Remove the drafts of processes that died; return how many.

        What they had finished stays for two weeks, to go on from.
        """
        self._forget_unfinished()
        swept = 0
        with suppress(FileNotFoundError):
            for name in {entry.name.removesuffix(".lock") for entry in self._drafts.iterdir()}:
                lock = FileLock(self._drafts / f"{name}.lock")
                if lock.try_acquire():
                    _remove(self._drafts / name)
                    lock.discard()
                    swept += 1
        return swept

    def size(self) -> int:
        """Return the bytes that finished stages take."""
        return sum(folder_size(folder) for folder in self._entries())

    def prune(self, max_bytes: int) -> int:
        """Remove finished stages, longest unused first, until they take `max_bytes`.

        One that is in use is never removed. Returns the bytes freed.
        """
        aged = sorted((_last_used(folder), folder) for folder in self._entries())
        sizes = {folder: folder_size(folder) for _, folder in aged}
        total, freed = sum(sizes.values()), 0
        for _, folder in aged:
            if total - freed <= max_bytes:
                break
            lock = self.lock(folder.name)
            if not lock.try_acquire():
                continue
            _remove(folder)
            lock.discard()
            freed += sizes[folder]
        return freed

    def _forget_unfinished(self) -> None:
        with suppress(FileNotFoundError):
            oldest = time.time() - _UNFINISHED_SECONDS
            for folder in list(self._unfinished.iterdir()):
                if folder.stat().st_mtime < oldest:
                    _remove(folder)

    def _entries(self) -> list[Path]:
        with suppress(FileNotFoundError):
            aside = (self._drafts, self._locks, self._unfinished)
            return [entry for entry in self.root.iterdir() if entry not in aside]
        return []


def _result(out: Path, record: Mapping[str, Any]) -> StageResult:
    return StageResult(
        key=str(record["key"]),
        path=out,
        data=dict(record["data"]),
        metrics={str(name): float(value) for name, value in record["metrics"].items()},
        seconds=float(record["seconds"]),
        peak_memory_bytes=int(record["peak_memory_bytes"]),
        cached=True,
        versions={str(name): str(value) for name, value in record["versions"].items()},
    )


def _read_record(path: Path) -> dict[str, Any] | None:
    try:
        if path.stat().st_size > _MAX_RECORD_BYTES:
            return None
        record = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    known = isinstance(record, dict) and record.get("schema") == _SCHEMA
    return record if known else None


def _sizes(folder: Path) -> dict[str, int]:
    """Return every file's size by relative path; raises StageError for links and special files."""
    sizes: dict[str, int] = {}
    for place, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(place, name)
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise StageError(f"a stage left {path.name}, which is a link or a special file")
        for name in files:
            path = Path(place, name)
            sizes[path.relative_to(folder).as_posix()] = path.stat().st_size
    return sizes


def _last_used(folder: Path) -> float:
    with suppress(OSError):
        return (folder / _RECORD).stat().st_mtime
    return 0.0


def _remove(folder: Path) -> None:
    """Remove a folder so that a half-removed one is never taken for a whole one."""
    with suppress(OSError):
        (folder / _RECORD).unlink()
    shutil.rmtree(folder, ignore_errors=True)
