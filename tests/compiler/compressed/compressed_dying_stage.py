"""The stage that makes a compressed checkpoint, killed once after its second block is kept."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeward.compiler.formats import compressed_pipeline
from edgeward.compiler.formats.compressed_worker import compress
from edgeward.compiler.stage_context import StageContext

_DIES_AFTER = 1


def run(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Log every block that is rounded; die as a process that ran out of memory does."""
    log = Path(params["log"])
    keep = compressed_pipeline.Blocks.keep

    def logged(blocks: compressed_pipeline.Blocks, number: int, tensors: Mapping[str, Any]) -> None:
        keep(blocks, number, tensors)
        before = log.read_text() if log.exists() else ""
        log.write_text(f"{before}{number}\n")
        if number == _DIES_AFTER and params["dies"] and "died" not in before:
            log.write_text(f"{before}{number}\ndied\n")
            os.kill(os.getpid(), signal.SIGKILL)

    compressed_pipeline.Blocks.keep = logged  # type: ignore[method-assign]
    try:
        return compress(context, params)
    finally:
        compressed_pipeline.Blocks.keep = keep  # type: ignore[method-assign]
