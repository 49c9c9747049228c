"""The evaluator as an engine: a saved Core ML package runs without Core ML, to prove it.

Each operator's output is rounded to float16 where the program says so: it shows whether the package
is right and safe in float16, not how fast it is, nor where the device runs it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from edgeward.errors import EngineError, UsageError
from edgeward.runtimes.bundle.manifest import EngineRef
from edgeward.runtimes.engines.base import EngineOptions, EngineSession, Tensor
from edgeward.runtimes.engines.coreml_packages import ENTRY, packages_of
from edgeward.runtimes.engines.coreml_slots import Layout, PackageSlots, layout_of

from .mil.package import quiet
from .mil.program import Program, State, load_program

_INSTALL = "pip install torch 'coremltools==9.0'"


def open_model(path: Path, options: EngineOptions) -> EngineSession:
    """Load a `.mlpackage`, or the one that `path`, its Manifest.json, belongs to.

    Its chunks run in turn; other models beside it become its parts. Raises EngineError where torch
    or coremltools is not installed, for a package that is damaged, and for an operator that the
    evaluator lacks.
    """
    return open_mode(path, options, rounded=True)


def open_mode(path: Path, options: EngineOptions, *, rounded: bool) -> MilSession:
    """Load a package to be computed with float16's rounding, or exactly."""
    try:
        with quiet():
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
    packages = packages_of(path, options.parts)
    ref = EngineRef(
        name="edgeward's MIL evaluator" + ("" if rounded else ", exact"),
        version=f"coremltools {coremltools.__version__}, torch {torch.__version__}",
        provider="CPU",
    )
    parts = {
        role: MilSession([_loaded(one)], ref, rounded=rounded)
        for role, one in packages.parts.items()
    }
    return MilSession(list(map(_loaded, packages.chunks)), ref, rounded=rounded, parts=parts)


class MilSession:
    """One program, or the chunks of one, each fed what those before it gave.

    A program of several functions runs the one whose inputs have the shapes that are given.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        ref: EngineRef,
        *,
        rounded: bool,
        parts: Mapping[str, EngineSession] = MappingProxyType({}),
    ) -> None:
        self.ref, self.programs, self.rounded = ref, programs, rounded
        self.inputs: Sequence[str] = tuple(programs[0].inputs)
        self.outputs: Sequence[str] = tuple(programs[-1].outputs)
        self.parts = parts
        self.overflows: set[str] = set()
        layout = _layout(programs)
        self.slotted = PackageSlots(self, layout) if layout is not None else None
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
        found = self.computed(inputs, None)
        return [found[name] for name in outputs]

    def states(self) -> list[State]:
        """Return states of zeros, of every chunk."""
        return [program.state() for program in self.programs]

    def computed(
        self, inputs: Mapping[str, Tensor], states: Sequence[State] | None
    ) -> dict[str, Tensor]:
        """Run every chunk; floats come as float32. The states are changed, fresh where none are."""
        function = self._function(inputs)
        known = dict(inputs)
        held = self.states() if states is None else states
        with self._lock:
            for program, state in zip(self.programs, held, strict=True):
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


def _layout(programs: Sequence[Program]) -> Layout | None:
    first = programs[0]
    functions = [
        {name: _sizes(port.shape) for name, port in first.inputs_of(function).items()}
        for function in first.functions
    ]
    states = [_sizes(port.shape) for port in first.states.values()]
    return layout_of(functions, tuple(programs[-1].outputs), states)


def _sizes(shape: Sequence[int | str]) -> tuple[int, ...]:
    """An axis that is not fixed has no size."""
    return tuple(0 if isinstance(size, str) else int(size) for size in shape)


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
