"""The evaluator as an engine: a saved Core ML package runs without Core ML, to prove it.

Each operator's output is rounded to float16 where the program says so: it shows whether the package
is right and safe in float16, not how fast it is, nor where the device runs it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import EngineError, UsageError
from edgeward.runtimes.bundle.manifest import EngineRef
from edgeward.runtimes.engines.base import EngineOptions, EngineSession, Tensor

from .mil.program import Program, State, load_program

ENTRY = "Manifest.json"
IDS, POSITION, LOGITS = "input_ids", "position", "logits"
_CHUNK = "chunk"
_INSTALL = "pip install torch 'coremltools==9.0'"


def open_model(path: Path, options: EngineOptions) -> EngineSession:
    """Load a `.mlpackage`, or the one that `path`, its Manifest.json, belongs to; chunks in turn.

    Raises EngineError where torch or coremltools is not installed, for a package that is damaged,
    and for an operator that the evaluator lacks.
    """
    return open_mode(path, options, rounded=True)


def open_mode(path: Path, options: EngineOptions, *, rounded: bool) -> MilSession:
    """Load a package to be computed with float16's rounding, or exactly."""
    try:
        import coremltools
        import torch
    except ImportError as error:
        raise EngineError(
            "Core ML packages are proved by edgeward's evaluator, torch and coremltools",
            why=str(error),
            next=_INSTALL,
        ) from None
    if options.threads:
        torch.set_num_threads(options.threads)
    parts = [options.parts[role] for role in sorted(options.parts, key=_number)]
    programs = [_loaded(package) for package in (package_of(path), *map(package_of, parts))]
    ref = EngineRef(
        name="edgeward's MIL evaluator" + ("" if rounded else ", exact"),
        version=f"coremltools {coremltools.__version__}, torch {torch.__version__}",
        provider="CPU",
    )
    return MilSession(programs, ref, rounded=rounded)


def package_of(path: Path) -> Path:
    """Return the package's folder: an entry is a file in it."""
    return path.parent if path.name == ENTRY else path


class MilSession:
    """One program, or the chunks of one, each fed what those before it gave.

    A program of several functions runs the one whose inputs have the shapes that are given.
    """

    parts: Mapping[str, EngineSession] = {}

    def __init__(self, programs: Sequence[Program], ref: EngineRef, *, rounded: bool) -> None:
        self.ref, self.programs, self.rounded = ref, programs, rounded
        self.inputs: Sequence[str] = tuple(programs[0].inputs)
        self.outputs: Sequence[str] = tuple(programs[-1].outputs)
        self.overflows: set[str] = set()
        self.slotted = MilSlots(self) if programs[0].states else None
        self._lock = threading.Lock()

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once; UsageError where the inputs are not those of any function."""
        wrong = sorted(set(self.inputs).symmetric_difference(inputs))
        if wrong:
            raise UsageError(
                "The inputs do not fit the model",
                why=f"{wrong[0]} is one too many or lacking; it takes {', '.join(self.inputs)}",
            )
        return dict(zip(self.outputs, self.run_prepared(inputs, self.outputs), strict=True))

    def run_prepared(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Run on arrays that are known to fit."""
        found = self.computed(inputs, [program.state() for program in self.programs])
        return [found[name] for name in outputs]

    def computed(self, inputs: Mapping[str, Tensor], states: Sequence[State]) -> dict[str, Tensor]:
        """Run every chunk; floats come as float32. The states are changed."""
        function = self._function(inputs)
        known = dict(inputs)
        with self._lock:
            for program, state in zip(self.programs, states, strict=True):
                wanted = program.inputs_of(function)
                given = {name: _cast(known[name], port.dtype) for name, port in wanted.items()}
                known |= program.run(given, rounded=self.rounded, state=state, function=function)
                self.overflows |= {str(one) for one in program.overflows}
        return {
            name: value.astype(np.float32) if value.dtype == np.float16 else value
            for name, value in known.items()
        }

    def _function(self, inputs: Mapping[str, Tensor]) -> str:
        program = self.programs[0]
        if len(program.functions) == 1:
            return program.default
        for name in program.functions:
            ports = program.inputs_of(name)
            if all(ports[one].shape == np.shape(inputs[one]) for one in ports):
                return name
        shapes = ", ".join(f"{name} {np.shape(inputs[name])}" for name in self.inputs)
        raise UsageError(
            "No function of this package takes these inputs",
            why=f"{shapes}; its functions are {', '.join(program.functions)}",
        )


class MilSlots:
    """A stateful program's calls, one for each of its functions (`runtimes/tasks/slots.py`)."""

    def __init__(self, session: MilSession) -> None:
        self._session = session
        program = session.programs[0]
        self.steps: Sequence[int] = tuple(
            sorted(int(program.inputs_of(name)[IDS].shape[1]) for name in program.functions)
        )
        # (layers, heads, slots, width)
        self.context = int(next(iter(program.states.values())).shape[2])

    def fresh(self, held: Mapping[str, Tensor]) -> list[State]:
        """Return states of zeros; UsageError where something is to stay beside them."""
        if held:
            raise UsageError("This package is a decoder alone", why=f"it takes no {min(held)}")
        return [program.state() for program in self._session.programs]

    def call(self, size: int, ids: NDArray[np.int32], position: int, cache: Any) -> Tensor:
        """Run `ids` (1, size) from slot `position` on: logits (1, size, vocabulary)."""
        del size
        given = {IDS: ids, POSITION: np.array([position], np.int32)}
        return self._session.computed(given, cache)[LOGITS]


def _loaded(package: Path) -> Program:
    listed = package / ENTRY
    if not listed.is_file():
        raise EngineError(f"{package} is no Core ML package", why=f"it has no {ENTRY}")
    return _load(package, listed.stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _load(package: Path, _changed: int) -> Program:
    return load_program(package)


def _cast(array: Tensor, dtype: str) -> Tensor:
    if dtype.startswith("fp"):
        return np.asarray(array, np.float32)
    return np.asarray(array).astype(np.int32)


def _number(role: str) -> int:
    return int(role.removeprefix(_CHUNK)) if role.removeprefix(_CHUNK).isdecimal() else 0
