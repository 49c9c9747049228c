"""Runs a bundle's verify_on_device.py with the evaluator in the place of Core ML's predict.

usage: on_device_by_evaluator.py BUNDLE [--deaf]. Deaf, the encoder gives zeros.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from edgeward.compiler.mil.program import State, load_program


class Model:
    """One function of a package."""

    def __init__(self, package: Path, function: str | None, *, deaf: bool) -> None:
        self.program, self.deaf = load_program(package), deaf
        self.function = function or self.program.default

    def get_spec(self) -> Any:
        """Return what the function takes."""
        ports = [SimpleNamespace(name=name) for name in self.program.inputs_of(self.function)]
        states = list(self.program.states_of(self.function))
        return SimpleNamespace(description=SimpleNamespace(input=ports, state=states, functions=[]))

    def make_state(self) -> State:
        """Return fresh states."""
        return self.program.state(self.function)

    def predict(self, given: dict[str, Any], state: State | None = None) -> dict[str, Any]:
        """Run it with rounding."""
        found = self.program.run(given, state=state, function=self.function)
        return {name: np.zeros_like(value) if self.deaf else value for name, value in found.items()}


class Evaluator:
    """Stands for Core ML; it knows of no placement."""

    name, version, machine = "evaluator", "0", "here"

    def __init__(self, *, deaf: bool) -> None:
        self.deaf = deaf

    def open(self, package: Path, function: str | None) -> Model:
        """Open a package."""
        return Model(package, function, deaf=self.deaf and package.stem == "encoder")

    def placement(self, package: Path) -> dict[str, int]:
        """Return nothing of a package that is there."""
        assert (package / "Manifest.json").is_file()
        return {}


def main() -> int:
    """Run the script that lies in the bundle."""
    bundle = Path(sys.argv[1])
    spec = importlib.util.spec_from_file_location("script", bundle / "verify_on_device.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return int(script.main([str(bundle)], Evaluator(deaf="--deaf" in sys.argv)))


if __name__ == "__main__":
    sys.exit(main())
