"""Graphs of fixed shapes behind one session: the smallest that holds a request runs it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from edgeward.errors import EngineError, ManifestError, UsageError
from edgeward.runtimes.bundle.manifest import Bucket, Manifest, TensorSpec
from edgeward.runtimes.bundle.read import Bundle

from .base import Engine, EngineOptions, EngineSession, Tensor

MASK = "attention_mask"
SEQUENCE = "sequence"
Axes = Mapping[str, tuple[int | str, ...]]
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the graphs share: inputs and outputs with their axes' names, and what pads an input.

    `row_axes` are the first of every input that has them: their items do not know of each other,
    so more of them than a graph takes are several runs. `masked_axes` may be padded, as the mask
    hides what was added. Any other axis has to have a graph's size.
    """

    inputs: Axes
    outputs: Axes
    padding: Mapping[str, int]
    sizes: Mapping[str, tuple[int, ...]]

    @property
    def row_axes(self) -> tuple[str, ...]:
        """The axes that a request may be split along."""
        later = {axis for shape in self.inputs.values() for axis in shape[1:]}
        return tuple(axis for axis in self.sizes if axis not in later)

    @property
    def masked_axes(self) -> tuple[str, ...]:
        """The axes along which a request may be padded."""
        hidden = self.inputs.get(MASK, ())[1:]
        return tuple(axis for axis in self.sizes if axis in hidden)

    def fed(
        self,
        name: str,
        array: Tensor,
        sizes: Mapping[str, int],
        chunk: Mapping[str, Span] = MappingProxyType({}),
    ) -> Tensor:
        """Return an input in a graph's shape: `chunk` of its rows, padded where it is smaller."""
        axes = self.inputs[name]
        shape = tuple(_of(sizes, axis, n) for axis, n in zip(axes, array.shape, strict=True))
        first = axes[0] if axes else ""
        part = array[slice(*chunk[first])] if isinstance(first, str) and first in chunk else array
        if part.shape == shape:
            return part
        fed = np.full(shape, self._padding(name, array), array.dtype)
        fed[tuple(slice(length) for length in part.shape)] = part
        if first in self.row_axes:
            fed[len(part) :] = fed[len(part) - 1]
        return fed

    def _padding(self, name: str, array: Tensor) -> int:
        """Return what pads an input; the mask hides it, so a kind that cannot hold it gets zero."""
        return self.padding.get(name, 0) if array.dtype.kind in "iu" else 0


@dataclass(frozen=True, slots=True)
class _Graph:
    session: EngineSession
    sizes: Mapping[str, int]

    @property
    def volume(self) -> int:
        return math.prod(self.sizes.values())


class BucketedSession:
    """Pads a request to a graph's shape and cuts its outputs back; splits what has too many rows.

    Rows are added by repeating the last one, so that no graph sees a row without a token.
    """

    def __init__(self, plan: Plan, graphs: Sequence[tuple[EngineSession, Mapping[str, int]]]):
        self._plan = plan
        self._graphs = sorted((_Graph(*one) for one in graphs), key=lambda graph: graph.volume)
        largest = self._graphs[-1]
        if any(largest.sizes[axis] < max(sizes) for axis, sizes in plan.sizes.items()):
            raise ManifestError(
                "The bundle's shapes do not fit together", why="none of them holds all others"
            )
        self._largest = largest.sizes
        self.inputs, self.outputs = largest.session.inputs, largest.session.outputs
        self._rows = plan.row_axes
        self._masked = plan.masked_axes if MASK in self.inputs else ()
        self.ref = largest.session.ref
        self.parts: Mapping[str, EngineSession] = {}
        if set(self.inputs) - set(plan.inputs) or set(self.outputs) - set(plan.outputs):
            raise ManifestError("The manifest does not list the inputs and outputs of its graphs")
        for graph in self._graphs:
            _refuse_other_sizes(graph, plan)

    @cached_property
    def native(self) -> Any:
        """The engine's own object for the largest graph."""
        return getattr(self._graphs[-1].session, "native", None)

    @property
    def sizes(self) -> Mapping[str, tuple[int, ...]]:
        """The sizes of each axis, over all graphs."""
        return self._plan.sizes

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once; UsageError where the inputs do not fit, or are larger than every graph."""
        arrays = _arrays(inputs, self.inputs)
        results = self._served(arrays, self.outputs, checked=True)
        return dict(zip(self.outputs, results, strict=True))

    def run_prepared(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Run on arrays that a task made for this graph; the outputs in that order."""
        return self._served(inputs, outputs, checked=False)

    def _served(
        self, arrays: Mapping[str, Tensor], outputs: Sequence[str], *, checked: bool
    ) -> list[Tensor]:
        asked = self._asked(arrays)
        whole: dict[str, Tensor] = {}
        spans = [[(axis, span) for span in self._spans(axis, asked[axis])] for axis in self._rows]
        for combination in itertools.product(*spans):
            chunk = dict(combination)
            wanted = {**asked, **{axis: stop - start for axis, (start, stop) in chunk.items()}}
            graph = self._graph_for(wanted)
            given = {
                name: self._plan.fed(name, arrays[name], graph.sizes, chunk) for name in self.inputs
            }
            if checked:
                told = graph.session.run(given)
                found = [told[name] for name in outputs]
            else:
                found = graph.session.run_prepared(given, outputs)
            for name, value in zip(outputs, found, strict=True):
                self._keep(whole, name, value, asked, chunk)
        return [whole[name] for name in outputs]

    def _asked(self, arrays: Mapping[str, Tensor]) -> dict[str, int]:
        """Return the request's size along each axis that is fixed."""
        asked: dict[str, int] = {}
        for name in self.inputs:
            shape, axes = arrays[name].shape, self._plan.inputs[name]
            if len(shape) != len(axes):
                why = f"{name} has {len(shape)} dimensions, the model's has {len(axes)}"
                raise UsageError("The inputs do not fit the model", why=why)
            for axis, length in zip(axes, shape, strict=True):
                if not isinstance(axis, str) or axis not in self._largest:
                    continue
                first = asked.setdefault(axis, length)
                if first != length:
                    why = f"the dimension {axis} is {first} in one input and {length} in {name}"
                    raise UsageError("The inputs do not fit together", why=why)
        empty = [axis for axis, length in asked.items() if length < 1]
        if empty:
            raise UsageError("The inputs do not fit the model", why=f"{empty[0]} is 0")
        return asked

    def _spans(self, axis: str, length: int) -> Iterator[Span]:
        step = self._largest[axis]
        return ((start, min(start + step, length)) for start in range(0, length, step))

    def _graph_for(self, wanted: Mapping[str, int]) -> _Graph:
        for graph in self._graphs:
            if all(self._holds(graph, axis, length) for axis, length in wanted.items()):
                return graph
        axis, length = next(
            (axis, length)
            for axis, length in wanted.items()
            if not any(self._holds(graph, axis, length) for graph in self._graphs)
        )
        sizes = ", ".join(map(str, self._plan.sizes[axis]))
        can = "at most" if self._is_padded(axis) else "exactly"
        raise UsageError(
            f"No shape of this bundle holds these inputs: {axis} is {length}",
            why=f"it was compiled for {axis} of {can} {sizes}",
            next=f"edgeward compile … --shapes {axis}={length}",
        )

    def _holds(self, graph: _Graph, axis: str, length: int) -> bool:
        size = graph.sizes[axis]
        return length <= size if self._is_padded(axis) else length == size

    def _is_padded(self, axis: str) -> bool:
        return axis in self._rows or axis in self._masked

    def _keep(
        self,
        whole: dict[str, Tensor],
        name: str,
        value: Tensor,
        asked: Mapping[str, int],
        chunk: Mapping[str, Span],
    ) -> None:
        """Cut a chunk's output to the request and put it into its place."""
        axes = self._plan.outputs[name]
        if value.ndim != len(axes):
            raise EngineError(
                f"The output {name} is not as the manifest lists it",
                why=f"it has {value.ndim} dimensions, not {len(axes)}",
            )
        spans = {axis: (0, length) for axis, length in asked.items()} | dict(chunk)
        sizes = [_of(asked, axis, size) for axis, size in zip(axes, value.shape, strict=True)]
        places = [
            slice(*_of(spans, axis, (0, size))) for axis, size in zip(axes, sizes, strict=True)
        ]
        part = value[tuple(slice(place.stop - place.start) for place in places)]
        if part.shape == tuple(sizes):
            whole[name] = part
            return
        if name not in whole:
            whole[name] = np.empty(sizes, value.dtype)
        whole[name][tuple(places)] = part


def open_graphs(engine: Engine, bundle: Bundle, options: EngineOptions) -> EngineSession:
    """Open a bundle's graph, or all of them behind one session where its shapes are fixed."""
    manifest = bundle.manifest
    if not manifest.buckets:
        return engine.open_model(bundle.entry, options)
    return open_buckets(engine, bundle.path, manifest, options)


def open_buckets(
    engine: Engine, folder: Path, listed: Manifest | Listed, options: EngineOptions
) -> BucketedSession:
    """Open graphs of fixed shapes; ManifestError where what is listed contradicts itself.

    Graphs that lie in one file are one session, which tells them by the inputs' shapes.
    """
    plan = plan_of(listed)
    paths = dict.fromkeys(bucket.path for bucket in listed.buckets)
    opened = {path: engine.open_model(folder / path, options) for path in paths}
    return BucketedSession(plan, [(opened[one.path], one.sizes) for one in listed.buckets])


def plan_of(listed: Manifest | Listed) -> Plan:
    """Return what graphs of fixed shapes share; ManifestError where they contradict themselves."""
    axes = set(listed.buckets[0].sizes)
    if any(set(bucket.sizes) != axes for bucket in listed.buckets):
        raise ManifestError("The bundle's shapes do not fit together", why="they name other axes")
    sizes = {
        axis: tuple(sorted({bucket.sizes[axis] for bucket in listed.buckets}))
        for axis in listed.buckets[0].sizes
    }
    plan = Plan(_axes(listed.inputs), _axes(listed.outputs), listed.padding, sizes)
    unknown = axes - {axis for shape in plan.inputs.values() for axis in shape}
    if unknown:
        raise ManifestError("The bundle's shapes name an axis that no input has", why=min(unknown))
    return plan


@dataclass(frozen=True, slots=True)
class Listed:
    """What a manifest will say of graphs of fixed shapes; paths are below their folder."""

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    padding: Mapping[str, int]
    buckets: Sequence[Bucket]


def listed(document: Mapping[str, Any]) -> Listed:
    """Return what a stage says of its graphs, as the manifest will say it."""
    return Listed(
        [TensorSpec.model_validate(spec) for spec in document["inputs"]],
        [TensorSpec.model_validate(spec) for spec in document["outputs"]],
        document["padding"],
        [Bucket.model_validate(bucket) for bucket in document["buckets"]],
    )


def _refuse_other_sizes(graph: _Graph, plan: Plan) -> None:
    """Hold what is listed against the graph, where its engine tells: a request is padded to it."""
    native = getattr(graph.session, "native", None)
    told = {item.name: tuple(item.shape) for item in native.get_inputs()} if native else {}
    for name, shape in told.items():
        wanted = tuple(_of(graph.sizes, axis, axis) for axis in plan.inputs.get(name, ()))
        if wanted != shape:
            raise ManifestError(
                "The bundle's shapes are not those of its graphs",
                why=f"{name} is {list(shape)}, listed as {list(wanted)}",
            )


def longest_sequence(engine: EngineSession) -> int | None:
    """Return how many tokens a text may have for its graphs' sake, None where that is open."""
    if not isinstance(engine, BucketedSession):
        return None
    return max(engine.sizes.get(SEQUENCE, ()), default=None)


def _axes(specs: Sequence[TensorSpec]) -> Axes:
    return {spec.name: tuple(spec.shape) for spec in specs}


def _of(known: Mapping[str, Any], axis: int | str, otherwise: Any) -> Any:
    return known.get(axis, otherwise) if isinstance(axis, str) else otherwise


def _arrays(inputs: Mapping[str, Tensor], wanted: Sequence[str]) -> dict[str, Tensor]:
    if not isinstance(inputs, Mapping):
        raise UsageError("run() takes a dictionary of arrays", why=f"got {type(inputs).__name__}")
    odd = sorted(set(wanted).symmetric_difference(inputs))
    if odd:
        why = f"{odd[0]} is {'missing' if odd[0] in wanted else 'none of its inputs'}"
        raise UsageError("The inputs do not fit the model", why=why)
    return {name: _array(name, value) for name, value in inputs.items()}


def _array(name: str, value: object) -> Tensor:
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:
        raise UsageError("The inputs do not fit the model", why=f"{name}: {error}") from None
