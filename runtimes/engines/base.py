"""What every engine offers a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgeward.runtimes.bundle.manifest import EngineRef

Tensor = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How to run: processor threads (0 lets the engine choose), providers in order."""

    threads: int = 0
    providers: tuple[str, ...] = ()


class EngineSession(Protocol):
    """A loaded model."""

    ref: EngineRef
    inputs: Sequence[str]
    outputs: Sequence[str]

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once; the keys are the graph's own names."""


class Engine(Protocol):
    """An engine's module: `open_model` loads a file."""

    def open_model(self, path: Path, options: EngineOptions) -> EngineSession:
        """Load the model; EngineError where the engine is missing or refuses it."""
