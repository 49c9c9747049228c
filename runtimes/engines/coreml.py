"""Core ML on a Mac, through coremltools: packages with one function or several, chunks, states."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from edgeward.errors import EngineError, UsageError
from edgeward.runtimes.bundle.manifest import EngineRef

from .base import EngineOptions, EngineSession, Tensor
from .coreml_packages import packages_of
from .coreml_slots import Layout, PackageSlots, layout_of

_DEFAULT_UNITS = "CPU_AND_NE"
_FLOATS = {65552: np.float16, 65568: np.float32, 65600: np.float64, 131104: np.int32}


def open_model(path: Path, options: EngineOptions) -> CoreMLSession:
    """Load a `.mlpackage`, or the one that `path`, its Manifest.json, belongs to.

    Its chunks run in turn; other models beside it become its parts. The first of
    `options.providers` names the compute units as coremltools does (ALL, CPU_ONLY, CPU_AND_NE,
    CPU_AND_GPU). Raises EngineError where this is no Mac, where coremltools is not installed, and
    where Core ML refuses the package.
    """
    tools = _coremltools()
    named = (options.providers or (_DEFAULT_UNITS,))[0]
    units = getattr(tools.ComputeUnit, named, None)
    if units is None:
        raise EngineError(f"Core ML has no compute units {named!r}", next=f"{_DEFAULT_UNITS}, ALL")
    packages = packages_of(path, options.parts)
    ref = EngineRef(name="Core ML", version=f"coremltools {tools.__version__}", provider=named)
    parts = {
        role: CoreMLSession(_Functions(tools, [one], units), ref)
        for role, one in packages.parts.items()
    }
    return CoreMLSession(_Functions(tools, packages.chunks, units), ref, parts)


def _coremltools() -> Any:
    if sys.platform != "darwin":
        raise EngineError(
            "Core ML runs on Apple's systems alone",
            why=f"this is {sys.platform}",
            next="pip install torch 'coremltools==9.0': edgeward's evaluator runs the package here",
        )
    try:
        import coremltools
    except ImportError as error:
        raise EngineError(
            "coremltools is not installed", why=str(error), next="pip install 'coremltools==9.0'"
        ) from None
    return coremltools


class _Functions:
    """The packages of a model, one MLModel for each function of each, loaded when first called."""

    def __init__(self, tools: Any, packages: Sequence[Path], units: Any) -> None:
        self._tools, self.packages, self._units = tools, list(packages), units
        self._loaded: dict[tuple[int, str], Any] = {}
        self.specs = [self._spec(package) for package in packages]

    def names(self) -> list[str]:
        """The functions' names, "" for a package that has one without a name."""
        return [one.name for one in self.specs[0].functions] or [""]

    def described(self, chunk: int, function: str) -> Any:
        """Return what a function takes and gives."""
        for one in self.specs[chunk].functions:
            if one.name == function:
                return one
        return self.specs[chunk]

    def model(self, chunk: int, function: str) -> Any:
        """Return what predicts."""
        key = (chunk, function)
        if key not in self._loaded:
            try:
                self._loaded[key] = self._tools.models.MLModel(
                    str(self.packages[chunk]),
                    compute_units=self._units,
                    function_name=function or None,
                )
            except (RuntimeError, ValueError, OSError) as error:
                raise EngineError(
                    f"Core ML does not load {self.packages[chunk]}", why=str(error)[:500]
                ) from error
        return self._loaded[key]

    def _spec(self, package: Path) -> Any:
        try:
            return self._tools.utils.load_spec(str(package)).description
        except (OSError, ValueError, RuntimeError) as error:
            raise EngineError(f"{package} is no Core ML package", why=str(error)[:500]) from error


class CoreMLSession:
    """One model in Core ML; of several functions the one whose inputs have the given shapes."""

    def __init__(
        self,
        functions: Any,
        ref: EngineRef,
        parts: Mapping[str, EngineSession] = MappingProxyType({}),
    ) -> None:
        self.ref, self.parts, self._functions = ref, parts, functions
        first = functions.names()[0]
        described = functions.described(0, first)
        self.inputs: Sequence[str] = tuple(port.name for port in described.input)
        last = functions.described(len(functions.packages) - 1, first)
        self.outputs: Sequence[str] = tuple(port.name for port in last.output)
        layout = _layout(functions)
        self.slotted = PackageSlots(self, layout) if layout is not None else None
        self._lock = threading.Lock()

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once; UsageError where the inputs are not those of any function."""
        wrong = sorted(set(self.inputs).symmetric_difference(inputs))
        if wrong:
            raise UsageError(
                "The inputs do not fit the model",
                why=f"{wrong[0]}: it takes {', '.join(self.inputs)}",
            )
        return dict(zip(self.outputs, self.run_prepared(inputs, self.outputs), strict=True))

    def run_prepared(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Run on arrays that a task made; the outputs in that order, floats as float32."""
        found = self.computed(inputs, None)
        return [found[name] for name in outputs]

    def computed(
        self, inputs: Mapping[str, Tensor], states: Sequence[Any] | None
    ) -> dict[str, Tensor]:
        """Run chunk after chunk; `states` are changed, fresh ones serve where there are none."""
        function = self._function(inputs)
        known = dict(inputs)
        for chunk in range(len(self._functions.packages)):
            model = self._functions.model(chunk, function)
            described = self._functions.described(chunk, function)
            given = {port.name: _cast(known[port.name], port) for port in described.input}
            with self._lock:
                if not len(described.state):
                    known |= model.predict(given)
                    continue
                state = model.make_state() if states is None else states[chunk]
                known |= model.predict(given, state=state)
        return {
            name: value.astype(np.float32) if value.dtype == np.float16 else value
            for name, value in known.items()
        }

    def states(self) -> list[Any]:
        """Return fresh states of each chunk, None for one that has none."""
        name = self._functions.names()[0]
        return [
            self._functions.model(chunk, name).make_state()
            if len(self._functions.described(chunk, name).state)
            else None
            for chunk in range(len(self._functions.packages))
        ]

    def _function(self, inputs: Mapping[str, Tensor]) -> str:
        names = list(self._functions.names())
        for name in names:
            ports = self._functions.described(0, name).input
            if all(_shape(port) == np.shape(inputs[port.name]) for port in ports):
                return str(name)
        shapes = ", ".join(f"{name} {np.shape(value)}" for name, value in inputs.items())
        raise UsageError("No function of this package takes these inputs", why=shapes)


def _layout(functions: Any) -> Layout | None:
    names = functions.names()
    inputs = [
        {port.name: _shape(port) for port in functions.described(0, name).input} for name in names
    ]
    last = functions.described(len(functions.packages) - 1, names[0])
    states = [
        tuple(int(size) for size in one.type.stateType.arrayType.shape)
        for one in functions.described(0, names[0]).state
    ]
    return layout_of(inputs, [port.name for port in last.output], states)


def _shape(port: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in port.type.multiArrayType.shape)


def _cast(array: Tensor, port: Any) -> Tensor:
    return np.asarray(array).astype(_FLOATS.get(port.type.multiArrayType.dataType, np.float32))
