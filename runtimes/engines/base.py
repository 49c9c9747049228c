"""What every engine offers a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import UsageError
from edgeward.runtimes.bundle.manifest import EngineRef

Tensor = NDArray[np.generic]
MAX_THREADS = 1024


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How to run: processor threads (0 lets the engine choose), providers in order.

    `parts` are the model's other graphs by their role: an encoder beside its decoder.
    """

    threads: int = 0
    providers: tuple[str, ...] = ()
    parts: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise UsageError for a number of threads that no machine has."""
        if not 0 <= self.threads <= MAX_THREADS:
            raise UsageError(f"An engine has 0 to {MAX_THREADS} threads, not {self.threads}")


class EngineSession(Protocol):
    """A loaded model; `parts` are its other graphs by their role."""

    ref: EngineRef
    inputs: Sequence[str]
    outputs: Sequence[str]
    parts: Mapping[str, EngineSession]

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once; the keys are the graph's own names. UsageError where the inputs do not fit."""

    def run_prepared(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Run on arrays that a task made for this graph, unchecked; the outputs in that order."""


class Engine(Protocol):
    """An engine's module: `open_model` loads a file."""

    def open_model(self, path: Path, options: EngineOptions) -> EngineSession:
        """Load the model; EngineError where the engine is missing or refuses it."""
