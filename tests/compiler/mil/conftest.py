"""What children in the toolchain `coreml` find, once for all workers of a run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llama_tools import run_there

from edgeward.compiler.file_lock import FileLock

HERE = Path(__file__).parent
Found = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def found_there(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Run a script of this folder, which writes JSON to the path that it is given last."""
    root = tmp_path_factory.getbasetemp()
    folder = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    known: dict[tuple[str, ...], dict[str, Any]] = {}

    def found(*words: str) -> dict[str, Any]:
        if words not in known:
            results = folder / f"mil-{'-'.join(words)}.json"
            lock = FileLock(results.with_suffix(".lock"))
            lock.acquire()
            try:
                if not results.is_file():
                    run_there("coreml", HERE / words[0], *words[1:], results, paths=[HERE])
            finally:
                lock.release()
            known[words] = json.loads(results.read_text("utf-8"))
        return known[words]

    return found
