"""Where built engines lie: outside every bundle, by the bundle's digest and the device's."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeward.errors import IntegrityError
from edgeward.runtimes.bundle.read import Depth

from .record import Record, check_plan, read_record

VARIABLE = "EDGEWARD_ENGINES"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TIMING = "timing"


def engines_folder() -> Path:
    """Return where engines are kept: EDGEWARD_ENGINES, else below the user's cache."""
    if told := os.environ.get(VARIABLE):
        return Path(told)
    if told := os.environ.get("EDGEWARD_CACHE"):
        return Path(told) / "engines"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edgeward" / "engines"


@dataclass(frozen=True, slots=True)
class Built:
    """An engine that is there and whole."""

    folder: Path
    plan: Path
    record: Record


@dataclass(frozen=True, slots=True)
class Place:
    """One engine's folder."""

    root: Path
    bundle: str
    fingerprint: str

    @property
    def folder(self) -> Path:
        """Where the plan and its record lie."""
        return self.root / self.bundle / self.fingerprint

    @property
    def timing_cache(self) -> Path:
        """What TensorRT learned of this device while it built, for any bundle."""
        return self.root / _TIMING / f"{self.fingerprint}.cache"

    def find(self, check: Depth = "digests") -> Built | None:
        """Return the engine, None where none was built; IntegrityError where it is damaged."""
        if not self.folder.is_dir():
            return None
        record = read_record(self.folder)
        if (record.bundle, record.fingerprint) != (self.bundle, self.fingerprint):
            raise IntegrityError(f"{self.folder} holds another bundle's engine")
        return Built(self.folder, check_plan(self.folder, record, check), record)


def digest_folders(folder: Path) -> list[Path]:
    """Return what is named after a digest: bundles in a cache, fingerprints in a bundle."""
    try:
        found = sorted(folder.iterdir())
    except OSError:
        return []
    return [each for each in found if _DIGEST.fullmatch(each.name) and each.is_dir()]


def built_engines(root: Path) -> Iterator[tuple[Path, Record | None]]:
    """Give every engine's folder with its record, None where that cannot be read."""
    for bundle in digest_folders(root):
        for folder in digest_folders(bundle):
            yield folder, _record_in(folder)


def clear_others(root: Path, fingerprint: str) -> list[Path]:
    """Remove the engines and timing caches of other fingerprints; return what went."""
    gone = [folder for folder, _ in built_engines(root) if folder.name != fingerprint]
    for folder in gone:
        shutil.rmtree(folder)
        _remove_if_empty(folder.parent)
    caches = (root / _TIMING).glob("*.cache") if (root / _TIMING).is_dir() else ()
    for path in caches:
        if path.stem != fingerprint:
            path.unlink()
    return gone


def _record_in(folder: Path) -> Record | None:
    try:
        return read_record(folder)
    except IntegrityError:
        return None


def _remove_if_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()
