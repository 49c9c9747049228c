"""Weights and activations in int8 with ranges from calibration data, as QDQ pairs."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import UnsupportedError

from .graph import Graph, attributes, make, size_of
from .int8 import Int8Weights, Matrix
from .observe import Seen, observe
from .smooth import ALPHAS, Group, apply_factors, best_factors

Floats = NDArray[np.float32]
_SHRINK = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4)


def to_static(
    source: Path,
    target: Path,
    samples: Iterable[Mapping[str, NDArray[Any]]],
    *,
    alpha: float | None = None,
    symmetric: bool = False,
    tables: bool = True,
    exclude: Collection[str] = (),
) -> dict[str, Any]:
    """Quantise products by constants: activations for each tensor, weights for each channel.

    `samples` are inputs of the model by name. Activations are smoothed into the weights
    (SmoothQuant) with `alpha`, 0 for not at all; None searches it for each activation, and so do
    the ranges, by the squared error on rows of the samples. Activations become uint8 with a zero
    point or, `symmetric`, int8 without one, as TensorRT wants them. `tables` also stores embedding
    tables as int8 rows; `exclude` names nodes or weights to leave. Raises UnsupportedError where
    the graph has no such product, UsageError for samples that give nothing.
    """
    graph = Graph(source)
    weights = Int8Weights(graph, keep=frozenset(exclude))
    gathers = {}
    for node in graph.proto.node:
        nodes = weights.gather(node) if tables else []
        if nodes:
            gathers[node.output[0]] = nodes
    groups = _groups(graph, weights)
    if not groups:
        raise UnsupportedError(
            "int8-static has nothing to quantise in this model", why="it quantises matrix products"
        )
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        wanted = [group.activation for group in groups]
        seen = observe(graph.model, wanted, samples, Path(scratch) / "opened.onnx")
    alphas, chosen = _choose(groups, seen, weights, alpha)
    names = apply_factors(graph, chosen, groups)
    work = _Work(graph, weights, symmetric)
    for group in groups:
        scale = chosen.get(group.activation)
        name = names.get(group.activation, group.activation)
        work.ranges[name] = _range(seen[group.activation], group, scale, symmetric)
    work.run(gathers)
    graph.save(target)
    return {
        "products": work.products,
        "tables": weights.tables,
        "tied": weights.tied,
        "smoothed": len(names),
        "smoothed_by_mul": sum(name != now for name, now in names.items()),
        "alphas": alphas,
        "bytes_before": size_of(source),
        "bytes": size_of(target),
    }


def _groups(graph: Graph, weights: Int8Weights) -> list[Group]:
    found: dict[str, list[int]] = {}
    for position, node in enumerate(graph.proto.node):
        if weights.fits(node) is not None:
            found.setdefault(node.input[0], []).append(position)
    groups = []
    for activation, positions in found.items():
        products = [weights.fits(graph.proto.node[position]) for position in positions]
        known = tuple(weight for weight in products if weight is not None)
        groups.append(Group(activation, tuple(positions), known))
    return groups


def _choose(
    groups: list[Group], seen: Mapping[str, Seen], weights: Int8Weights, alpha: float | None
) -> tuple[dict[str, float], dict[str, Floats]]:
    """The alpha and the factors of each activation; a head tied to its table keeps its weights."""
    alphas: dict[str, float] = {}
    chosen: dict[str, Floats] = {}
    for group in groups:
        name = group.activation
        alphas[name] = 0.0
        if alpha == 0 or any(weights.tied_table(w) is not None for w in group.weights):
            continue
        tried = ALPHAS if alpha is None else (alpha,)
        alphas[name], scale = best_factors(seen[name], group, tried)
        if scale is not None:
            chosen[name] = scale
    return alphas, chosen


def _range(
    seen: Seen, group: Group, scale: Floats | None, symmetric: bool
) -> tuple[np.float32, int]:
    """The step and zero point that lose least of the products, each channel by its weights."""
    ones = np.ones_like(seen.low) if scale is None else scale
    rows = seen.rows / ones
    low, high = min(float((seen.low / ones).min()), 0.0), max(float((seen.high / ones).max()), 0.0)
    energy = np.square(group.stacked() * ones).sum(axis=0)
    best, least = _grid(low, high, symmetric), np.inf
    for factor in _SHRINK:
        step, zero = _grid(low * factor, high * factor, symmetric)
        ends = (-127, 127) if symmetric else (0, 255)
        back = (np.clip(np.rint(rows / step) + zero, *ends) - zero) * step
        loss = float((np.square(back - rows) * energy).sum(dtype=np.float64))
        if loss < least:
            best, least = (step, zero), loss
    return best


def _grid(low: float, high: float, symmetric: bool) -> tuple[np.float32, int]:
    if symmetric:
        return np.float32(max(-low, high) / 127 or 1), 0
    step = np.float32((high - low) / 255 or 1)
    return step, int(np.clip(np.rint(-low / step), 0, 255))


@dataclass(slots=True)
class _Work:
    graph: Graph
    weights: Int8Weights
    symmetric: bool
    ranges: dict[str, tuple[np.float32, int]] = field(default_factory=dict)
    products: int = 0
    _inputs: dict[str, str] = field(default_factory=dict)
    _points: dict[str, str] = field(default_factory=dict)

    def run(self, gathers: Mapping[str, list[Any]]) -> None:
        """Put QDQ pairs before every product, and int8 look-ups in place of `gathers`."""
        nodes: list[Any] = []
        for node in self.graph.proto.node:
            nodes += gathers.get(next(iter(node.output), ""), []) or self._product(node) or [node]
        self.graph.replace_nodes(nodes)

    def _product(self, node: Any) -> list[Any]:
        weight = self.weights.fits(node)
        if weight is None:
            return []
        self.products += 1
        nodes: list[Any] = []
        matrix = self.weights.matrix(weight, nodes)
        restored = self.graph.unique(f"{matrix.codes}_restored")
        activation = self._restored(node.input[0], nodes)
        parts = [matrix.codes, matrix.scales, self._zeros(matrix)]
        nodes.append(make("DequantizeLinear", parts, [restored], given={"axis": 1}))
        node.input[0], node.input[1] = activation, restored
        if attributes(node).get("transB"):
            # The stored matrix is [K, N] now.
            for attribute in node.attribute:
                if attribute.name == "transB":
                    attribute.i = 0
        return [*nodes, node]

    def _zeros(self, matrix: Matrix) -> str:
        """Zero points, though they are zero: with exact sums ONNX Runtime 1.23 aborts on none."""
        if matrix.scales not in self._points:
            zeros = np.zeros_like(self.graph.array(matrix.scales), np.int8)
            self._points[matrix.scales] = self.graph.add(zeros, f"{matrix.scales}_zeros")
        return self._points[matrix.scales]

    def _restored(self, name: str, nodes: list[Any]) -> str:
        """The activation after its QDQ pair, made once."""
        if name not in self._inputs:
            step, zero = self.ranges[name]
            kind = np.int8 if self.symmetric else np.uint8
            codes, back = self.graph.unique(f"{name}_codes"), self.graph.unique(f"{name}_qdq")
            scale = self.graph.add(np.array(step, np.float32), f"{name}_step")
            point = self.graph.add(np.array(zero, kind), f"{name}_zero")
            nodes.append(make("QuantizeLinear", [name, scale, point], [codes]))
            nodes.append(make("DequantizeLinear", [codes, scale, point], [back]))
            self._inputs[name] = back
        return self._inputs[name]
