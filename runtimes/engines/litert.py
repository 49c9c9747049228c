"""LiteRT: TFLite files on ai-edge-litert, or on tflite-runtime where a device has that alone."""

from __future__ import annotations

import importlib
import platform
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edgeward.errors import EngineError, UsageError
from edgeward.runtimes.bundle.manifest import EngineRef

from .base import EngineOptions, EngineSession, Tensor
from .cores import physical_cores
from .litert_copied import CopiedSlots
from .litert_decoder import LiteRTDecoder
from .litert_file import TFLiteFile, read_tflite
from .litert_slots import layout_of, open_slots
from .litert_values import Port, ports_of

NAME = "litert"
# What is asked for first: the runtime that is still developed.
PACKAGES = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
}
OLDER = "tflite-runtime"
_NAMED = {"ai-edge-litert": NAME, OLDER: OLDER}
_LARGEST_DIMENSION = 1 << 24
Parts = Mapping[str, EngineSession]


@dataclass(frozen=True, slots=True)
class Way:
    """One signature: its runner, and what goes in and comes out by name."""

    runner: Any
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]


class LiteRTSession:
    """One TFLite file, loaded: the signature that runs is the one of the inputs' shapes."""

    def __init__(
        self, interpreter: Any, names: Sequence[str], ref: EngineRef, parts: Parts
    ) -> None:
        self.interpreter, self.ref, self.parts = interpreter, ref, parts
        # The interpreter holds the tensors of a run: one at a time.
        self._turn = threading.Lock()
        self._ways = [_way(interpreter, name) for name in names]
        first = self._ways[0]
        self.inputs: Sequence[str] = list(first.inputs)
        self.outputs: Sequence[str] = list(first.outputs)
        self._by_shapes = {_shapes(way.inputs): way for way in self._ways}

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once; UsageError where the inputs fit no signature."""
        if not isinstance(inputs, Mapping):
            why = f"got {type(inputs).__name__}"
            raise UsageError("run() takes a dictionary of arrays", why=why)
        odd = sorted(set(inputs).symmetric_difference(self.inputs))
        if odd:
            why = f"{odd[0]} is {'missing' if odd[0] in self.inputs else 'none of its inputs'}"
            raise UsageError("The inputs do not fit the model", why=why)
        return dict(zip(self.outputs, self.run_prepared(inputs, self.outputs), strict=True))

    def run_prepared(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Run on arrays that a task made for this graph; the outputs in that order."""
        way = self._way_for(inputs)
        given = {name: way.inputs[name].fed(inputs[name]) for name in self.inputs}
        with self._turn:
            try:
                found = way.runner(**given)
            except (ValueError, RuntimeError) as error:
                why = _first_line(error)
                raise EngineError(f"{self.ref.name} failed while running", why=why) from error
        return [way.outputs[name].told(found[name]) for name in outputs]

    def _way_for(self, inputs: Mapping[str, Tensor]) -> Way:
        if len(self._ways) == 1:
            return self._ways[0]
        asked = tuple(sorted((name, tuple(inputs[name].shape)) for name in self.inputs))
        found = self._by_shapes.get(asked)
        if found is None:
            shapes = "; ".join(_words(way.inputs) for way in self._ways[:8])
            raise UsageError("No signature of this file has these shapes", why=f"it has: {shapes}")
        return found


@dataclass(frozen=True, slots=True)
class Runtime:
    """An installed runtime: its interpreter's module, and who it is."""

    module: Any
    ref: EngineRef

    def refuse_newer(self, told: TFLiteFile, path: Path) -> None:
        """Raise EngineError for what tflite-runtime 2.14 ends the process on."""
        blocks = any(tensor.blocks for graph in told.graphs for tensor in graph.tensors)
        if blocks and self.ref.name == OLDER:
            raise EngineError(
                f"{self.ref.name} {self.ref.version} cannot load {path.name}",
                why="its weights are rounded in blocks, which ai-edge-litert alone knows",
                next="pip install 'edgeward[litert]'",
            )

    def open(self, path: Path, threads: int) -> Any:
        """Load a file and plan its memory; EngineError where the runtime refuses it."""
        try:
            return self.module.Interpreter(model_path=str(path), num_threads=threads)
        except (ValueError, RuntimeError, TypeError) as error:
            raise EngineError(
                f"{self.ref.name} {self.ref.version} cannot load {path.name}",
                why=_first_line(error),
                next="edgeward doctor",
            ) from error


def open_model(path: Path, options: EngineOptions) -> EngineSession:
    """Load a TFLite file; EngineError where no runtime is installed or the file is damaged."""
    return _open(runtime(), path, options)


def _open(found: Runtime, path: Path, options: EngineOptions) -> EngineSession:
    told = checked(path)
    found.refuse_newer(told, path)
    parts = {
        role: _open(found, part, replace(options, parts={})) for role, part in options.parts.items()
    }
    threads, layout = options.threads or physical_cores(), layout_of(told)
    if layout is None:
        names = [one.name for one in told.signatures]
        return LiteRTSession(found.open(path, threads), names, found.ref, parts)
    if found.ref.name == OLDER:
        slots = CopiedSlots(layout, found.open(path, threads))
        return LiteRTDecoder(slots, found.ref, parts)
    return LiteRTDecoder(open_slots(path, layout, threads), found.ref, parts)


def runtime() -> Runtime:
    """Return the runtime that is installed; EngineError where there is none."""
    for package, module in PACKAGES.items():
        try:
            found = importlib.import_module(module)
        except ImportError:
            continue
        ref = EngineRef(
            name=_NAMED[package],
            version=_version(package),
            provider="CPU",
            machine=platform.machine(),
        )
        return Runtime(found, ref)
    raise EngineError(
        "LiteRT is not installed",
        why="neither ai-edge-litert nor tflite-runtime can be imported",
        next="pip install 'edgeward[litert]'",
    )


def checked(path: Path) -> TFLiteFile:
    """Return what a file says, once it is known to be whole; EngineError where it is not."""
    told = read_tflite(path)
    if not told.signatures:
        raise EngineError(f"{path.name} has no signature", why="its inputs have no names")
    for one in told.signatures:
        graph = told.graphs[one.graph]
        for name, index in one.inputs.items():
            shape = graph.tensors[index].shape
            if any(not 0 < length <= _LARGEST_DIMENSION for length in shape):
                why = f"{name} is {list(shape)}"
                raise EngineError(f"{path.name} has an input of no size", why=why)
    return told


def _way(interpreter: Any, name: str) -> Way:
    try:
        runner = interpreter.get_signature_runner(name)
        given, told = runner.get_input_details(), runner.get_output_details()
    except (ValueError, RuntimeError) as error:
        raise EngineError(f"The signature {name} cannot be run", why=_first_line(error)) from error
    inputs, outputs = ports_of(given), ports_of(told)
    return Way(runner, {p.name: p for p in inputs}, {p.name: p for p in outputs})


def _shapes(ports: Mapping[str, Port]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple(sorted((name, port.shape) for name, port in ports.items()))


def _words(ports: Mapping[str, Port]) -> str:
    return ", ".join(f"{name} {list(port.shape)}" for name, port in ports.items())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:500]
