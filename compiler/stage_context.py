"""What a stage's function gets while it runs in its toolchain."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgeward.errors import StageError

Send = Callable[[dict[str, Any]], None]


def _ignore(message: dict[str, Any]) -> None:
    del message


class StageContext:
    """Inputs to read, a folder to fill, and the way to tell the parent how it goes.

    A stage's function is `def export(context: StageContext, params: Mapping[str, Any]) -> dict`:
    it reads `context.inputs[name]`, writes only below `context.out`, keeps temporary files below
    `context.scratch`, and returns a dict of JSON values (`"summary"`, where present, is the text
    of the stage's finished line). Whatever it raises from `edgeward.errors` reaches the user as
    the same class. `context.resume`, where its spec asks for it, is a folder of finished work that
    the same stage finds again after an interruption; it goes when the stage is done.
    """

    def __init__(
        self,
        inputs: Mapping[str, Path],
        out: Path,
        *,
        scratch: Path | None = None,
        resume: Path | None = None,
        send: Send = _ignore,
    ) -> None:
        self.inputs: dict[str, Path] = dict(inputs)
        self.out = out
        self.scratch = scratch if scratch is not None else out
        self.resume = resume
        self._send = send

    def progress(self, fraction: float | None, text: str = "") -> None:
        """Say how far it is: 0 to 1, or None where the end is not known."""
        if fraction is not None:
            fraction = min(1.0, max(0.0, fraction)) if math.isfinite(fraction) else None
        self._send({"type": "progress", "fraction": fraction, "text": text})

    def metric(self, name: str, value: float) -> None:
        """Record one figure of the stage; raises StageError where it is not finite."""
        number = float(value)
        if not math.isfinite(number):
            raise StageError(
                f"the metric {name} is {number}",
                why="A metric is a finite number: an overflow or an empty input came before.",
            )
        self._send({"type": "metric", "name": name, "value": number})

    def log(self, text: str) -> None:
        """Write a line into the stage's log."""
        self._send({"type": "log", "text": text})
