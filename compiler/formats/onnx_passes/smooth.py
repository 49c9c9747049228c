"""SmoothQuant (Xiao et al., 2022): what is hard to round in activations moves into the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .graph import Graph, Weight, make
from .observe import Seen

Floats = NDArray[np.float32]
# Where the parameters of a norm lie: gamma, and beta where there is one.
_NORMS = {
    ("", "LayerNormalization"): (1, 2),
    ("", "RMSNormalization"): (1,),
    ("", "SimplifiedLayerNormalization"): (1,),
    ("com.microsoft", "SimplifiedLayerNormalization"): (1,),
    ("com.microsoft", "SkipSimplifiedLayerNormalization"): (2,),
    ("com.microsoft", "SkipLayerNormalization"): (2, 3),
}
ALPHAS = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
_WORTH = 0.9


@dataclass(frozen=True, slots=True)
class Group:
    """Products that read one activation: where they stand, and their weights."""

    activation: str
    positions: tuple[int, ...]
    weights: tuple[Weight, ...]

    def stacked(self) -> Floats:
        """All their rows [sum of N, K]."""
        return np.concatenate([w.rows for w in self.weights]).astype(np.float32)


def factors(seen: Seen, weight_peak: Floats, alpha: float) -> Floats:
    """Return by what each channel of the activation is divided: max|x|^a / max|w|^(1-a).

    Their geometric mean is 1. Channels that are never seen, or never read, stay as they are.
    """
    live = (seen.peak > 0) & (weight_peak > 0)
    raw = np.ones_like(seen.peak)
    raw[live] = seen.peak[live] ** alpha / weight_peak[live] ** (1 - alpha)
    raw[live] /= np.exp(np.log(raw[live]).mean()) if live.any() else 1
    return np.asarray(np.clip(raw, 1e-3, 1e3), np.float32)


def best_factors(seen: Seen, group: Group, alphas: Sequence[float]) -> tuple[float, Floats | None]:
    """Return the alpha that loses least on the kept rows, and its factors; None for leaving it.

    Alpha 0 stands for no smoothing. Something else is taken only where the squared error of the
    products falls by a tenth or more.
    """
    rows, weights = seen.rows, group.stacked()
    truth = rows @ weights.T
    peak = np.abs(weights).max(axis=0)
    losses = {}
    for alpha in alphas:
        scale = factors(seen, peak, alpha) if alpha else np.ones_like(peak)
        error = rounded(rows / scale) @ _rounded_rows(weights * scale).T - truth
        losses[alpha] = float(np.square(error, dtype=np.float64).mean())
    best = min(losses, key=lambda alpha: losses[alpha])
    if not best or (0.0 in losses and losses[best] > _WORTH * losses[0.0]):
        return 0.0, None
    return best, factors(seen, peak, best)


def rounded(values: Floats) -> Floats:
    """The values as uint8 with one scale and zero point would have them."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    scale = np.float32((high - low) / 255 or 1)
    return np.asarray(np.rint(values / scale) * scale, np.float32)


def apply_factors(
    graph: Graph, chosen: Mapping[str, Floats], groups: Sequence[Group]
) -> dict[str, str]:
    """Divide activations and multiply weights; return what each activation's products now read.

    A norm takes them only where nothing but the group's products reads it; elsewhere, as behind a
    GELU, a Mul stands before the products. Weights that something else reads are copied.
    """
    names: dict[str, str] = {}
    before: dict[int, Any] = {}
    nodes = list(graph.proto.node)
    readers = graph.readers()
    for group in groups:
        scale = chosen.get(group.activation)
        if scale is None:
            continue
        _scale_weights(graph, nodes, group, scale)
        if _fold(graph, group, scale, readers):
            names[group.activation] = group.activation
            continue
        name = graph.unique(f"{group.activation}_smooth")
        factor = graph.add((1 / scale).astype(np.float32), f"{group.activation}_factor")
        names[group.activation] = name
        for position in group.positions:
            nodes[position].input[0] = name
        before[group.positions[0]] = make("Mul", [group.activation, factor], [name])
    graph.replace_nodes(
        [
            twin
            for position, node in enumerate(nodes)
            for twin in ([before[position], node] if position in before else [node])
        ]
    )
    return names


def _scale_weights(graph: Graph, nodes: Sequence[Any], group: Group, scale: Floats) -> None:
    for position, weight in zip(group.positions, group.weights, strict=True):
        scaled = (weight.rows * scale).astype(weight.table.dtype)
        node = nodes[position]
        # As [K, N] for a MatMul; a Gemm keeps its transB.
        turned = any(a.name == "transB" and a.i for a in node.attribute)
        node.input[1] = graph.add(scaled if turned else scaled.T, f"{weight.name}_smooth")


def _fold(
    graph: Graph, group: Group, scale: Floats, readers: Mapping[str, list[tuple[int, int]]]
) -> bool:
    norm = graph.producers.get(group.activation)
    places = _NORMS.get((norm.domain, norm.op_type)) if norm is not None else None
    if norm is None or places is None or norm.output[0] != group.activation:
        return False
    given = {o.name for o in graph.proto.output} | graph.captured
    if {at for at, _ in readers[group.activation]} != set(group.positions):
        return False
    named = [norm.input[place] for place in places if place < len(norm.input)]
    values = [graph.array(name) for name in named if name]
    if group.activation in given or any(v is None or v.shape != scale.shape for v in values):
        return False
    for place in places:
        if place < len(norm.input) and norm.input[place]:
            value = graph.array(norm.input[place])
            if value is not None:
                divided = (value / scale).astype(value.dtype)
                norm.input[place] = graph.add(divided, f"{norm.input[place]}_smooth")
    return True


def _rounded_rows(weights: Floats) -> Floats:
    peak = np.abs(weights).max(axis=1, keepdims=True)
    scale = np.where(peak > 0, peak / 127, 1).astype(np.float32)
    return np.asarray(np.rint(weights / scale) * scale, np.float32)
