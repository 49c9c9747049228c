"""The toolchains under the user's cache: made on first use, checked, healed."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgeward.errors import ToolchainError

from ..cache_dir import cache_root
from ..file_lock import FileLock
from ..folders import folder_size
from ..progress import Reporter
from .builder import build, can_import_worker
from .lock import check_build, read_lock
from .marker import read_marker, trouble_of, versions_of, write_marker
from .registry import lock_path, toolchain_names
from .site import Site, find_site
from .toolchain import State, Toolchain, ToolchainStatus

_STAGE = "toolchain"


class Toolchains:
    """Makes, finds and removes toolchains.

    `torch_build` is `cpu` unless it or EDGEWARD_TORCH says otherwise (cu126, cu128, cu130); it is
    part of the digest of every toolchain that holds torch.
    """

    def __init__(self, cache: Path | None = None, torch_build: str | None = None) -> None:
        self.root = (cache if cache is not None else cache_root()) / "toolchains"
        asked = torch_build or os.environ.get("EDGEWARD_TORCH") or "cpu"
        self.torch_build = check_build(asked)
        self._ready: dict[str, Toolchain] = {}
        self._guard = threading.Lock()

    def names(self) -> list[str]:
        """Return every toolchain that there could be."""
        return toolchain_names()

    def digest(self, name: str) -> str:
        """Return the digest a toolchain has or would have; makes nothing. Raises ToolchainError."""
        return find_site(self.root, name, self.torch_build).digest

    def ensure(self, name: str, reporter: Reporter) -> Toolchain:
        """Return the toolchain, making or repairing it where it must be.

        Two processes never make one at the same time: the second waits and uses it. Raises
        ToolchainError.
        """
        with self._guard:
            known = self._ready.get(name)
            if known is not None:
                return known
            started = time.monotonic()
            site = find_site(self.root, name, self.torch_build)
            made = [self._ensure_layer(layer, reporter) for layer in site.layers]
            if not any(made):
                seconds = time.monotonic() - started
                reporter.stage_finished(_STAGE, _label(site), seconds, cached=True)
            self._ready[name] = _toolchain(site)
            return self._ready[name]

    def state(self, name: str) -> ToolchainStatus:
        """Return what a toolchain is now; makes nothing.

        Raises ToolchainError for a name, a lock or a Python that cannot serve.
        """
        site = find_site(self.root, name, self.torch_build)
        state, reason = _state(site)
        marker = read_marker(site) if state == "ready" else None
        return ToolchainStatus(
            name=name,
            state=state,
            reason=reason,
            folder=site.folder,
            size_bytes=marker.size_bytes if marker else folder_size(site.folder),
            description=site.lock.description,
            fix="" if state == "ready" else f"edgeward doctor --fix {name}",
        )

    def remove(self, name: str) -> int:
        """Remove a toolchain, every build of it and for every Python; return the bytes freed.

        Raises ToolchainError for a name that nobody gives.
        """
        read_lock(name, lock_path(name))
        freed = 0
        with self._guard, suppress(FileNotFoundError):
            self._ready.clear()
            for folder in list(self.root.iterdir()):
                if not folder.is_dir() or folder.name.rpartition("-")[0] != name:
                    continue
                with FileLock(folder.with_name(f"{folder.name}.lock")):
                    freed += folder_size(folder)
                    _wipe(folder)
        return freed

    def _ensure_layer(self, site: Site, reporter: Reporter) -> bool:
        """Return whether the layer had to be made."""
        lock = FileLock(site.lock_file)

        def say_waiting() -> None:
            reporter.note(f"toolchain {site.name}: another process is at it, waiting")

        with _disk_errors(site):
            lock.acquire(shared=True, on_wait=say_waiting)
            with lock:
                if _trouble(site, lock) is None:
                    return False
            lock.acquire(on_wait=say_waiting)
            with lock:
                trouble = _trouble(site, lock)
                if trouble is None:
                    return False
                _make(site, reporter, lock, trouble)
                return True


def _make(site: Site, reporter: Reporter, lock: FileLock, trouble: str) -> None:
    reporter.stage_started(_STAGE)
    if site.folder.exists():
        reporter.note(f"toolchain {site.name}: {trouble}; making it anew")
    started = time.monotonic()

    def say(text: str) -> None:
        reporter.stage_progress(_STAGE, None, f"{site.name}: {text}")

    try:
        _wipe(site.folder)
        build(site, say, lock.fileno())
        write_marker(site, versions_of(site))
    except BaseException:
        _wipe(site.folder)
        reporter.stage_failed(_STAGE)
        raise
    reporter.stage_finished(_STAGE, _label(site), time.monotonic() - started)


def _state(site: Site) -> tuple[State, str]:
    if not site.folder.exists():
        return "missing", "not made yet"
    lock = FileLock(site.lock_file)
    if not lock.try_acquire(shared=True):
        return "building", "another process is making it"
    with lock:
        trouble = trouble_of(site)
    return ("broken", trouble) if trouble else ("ready", "")


def _trouble(site: Site, lock: FileLock) -> str | None:
    return trouble_of(site) or can_import_worker(site.python, lock.fileno())


def _toolchain(site: Site) -> Toolchain:
    marker = read_marker(site)
    versions = marker.versions if marker else versions_of(site)
    locks = tuple(layer.lock_file for layer in site.layers)
    return Toolchain(site.name, site.python, site.digest, site.site_packages, versions, locks)


def _label(site: Site) -> str:
    return f"{site.name}-{site.digest[:4]}"


def _wipe(folder: Path) -> None:
    """Remove a toolchain so that a half-removed one is never believed in: the marker goes first."""
    for marker in folder.glob("edgeward-toolchain.*"):
        marker.unlink()
    if folder.exists():
        shutil.rmtree(folder)


@contextmanager
def _disk_errors(site: Site) -> Iterator[None]:
    """Turn errors of the file system into a sentence."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise ToolchainError(
            f"toolchain {site.name}: {'the disk is full' if full else error.strerror or error}",
            why=str(error.filename or site.folder),
            next="edgeward doctor --prune 10GB, or set EDGEWARD_CACHE to a larger disk"
            if full
            else "set EDGEWARD_CACHE to a folder that can be written",
        ) from error
