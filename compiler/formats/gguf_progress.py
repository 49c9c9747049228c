"""How far a file is that something else writes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeward.compiler.stage_context import StageContext

_EVERY_SECONDS = 0.5


@contextmanager
def growing(context: StageContext, path: Path, total: int, what: str) -> Iterator[None]:
    """Tell, while the block runs, how much of `total` bytes the file at `path` has."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_EVERY_SECONDS):
            size = path.stat().st_size if path.exists() else 0
            context.progress(size / max(total, 1), f"{what}, {size / 2**20:.0f} MiB")

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
