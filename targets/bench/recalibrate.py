"""`targets calibrate --from-bench TARGET`: records read, the user's own profile written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from edgeward.errors import UsageError
from edgeward.targets.destination import destination, put
from edgeward.targets.write import render

from .correction import Correction, correct
from .store import Store

HEAD = "# Written by `edgeward targets calibrate --from-bench`: measured shares over the profile\n"


def recalibrated(target: str, bundles: Sequence[Path], file: str | None) -> None:
    """Correct a target and write it to `file`, `-` for stdout, else beside the user's others.

    Raises UsageError where no record tells anything, or the user has a profile of that name that
    was not written here.
    """
    path = destination(target, file)
    if path is not None and file is None:
        _refuse_to_replace(target, path)
    correction = correct(target, Store().records(), bundles)
    for line in told(correction):
        sys.stderr.write(line + "\n")
    put(HEAD + render(correction.document()), path)


def told(correction: Correction) -> list[str]:
    """Return what was found, and what was left out, in words."""
    lines = [
        f"{each.share}: {each.value:g} of the profile's is reached, {each.source}; "
        f"median error of the plan {each.error_before:+.0f} %, now {each.error_after:+.0f} %"
        for each in correction.shares
    ]
    passed = correction.passed_over.items()
    return [*lines, *(f"passed over: {count} records {words}" for words, count in passed)]


def _refuse_to_replace(target: str, path: Path) -> None:
    if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(HEAD):
        raise UsageError(
            f"{path} is a profile of your own",
            why="it is not written over",
            next=f"edgeward targets calibrate --from-bench {target} -o -",
        )
