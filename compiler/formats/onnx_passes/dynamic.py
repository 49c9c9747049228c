"""Weights in int8 for each channel, activations quantised as the model runs."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from edgeward.errors import UnsupportedError

from .graph import Graph, make, size_of
from .int8 import Int8Weights


def to_dynamic(
    source: Path,
    target: Path,
    *,
    tables: bool = True,
    keep: Collection[str] = (),
) -> dict[str, Any]:
    """Rewrite products by constants as DynamicQuantizeLinear and MatMulInteger.

    ONNX Runtime fuses the form to DynamicQuantizeMatMul or MatMulIntegerToFloat; all operators are
    standard ones. It needs no shapes, so fused graphs and weights beside the graph do as well.
    `tables` also stores embedding tables as int8 rows; `keep` names nodes or weights to leave.
    Raises UnsupportedError where the graph has nothing to quantise.
    """
    graph = Graph(source)
    weights = Int8Weights(graph, bits=_bits(graph), keep=frozenset(keep))
    work = _Work(graph, weights)
    # Tables first, so that heads find theirs.
    gathers = [weights.gather(node) if tables else [] for node in graph.proto.node]
    nodes: list[Any] = []
    for gathered, node in zip(gathers, list(graph.proto.node), strict=True):
        nodes += gathered or work.product(node) or [node]
    if not work.products and not weights.tables:
        raise UnsupportedError(
            "int8-dynamic has nothing to quantise in this model",
            why="it quantises matrix products and embeddings; convolutions are faster in float",
            next="edgeward compile … --precision fp32",
        )
    graph.replace_nodes(nodes)
    graph.save(target)
    return {
        "products": work.products,
        "tables": weights.tables,
        "tied": weights.tied,
        "bytes_before": size_of(source),
        "bytes": size_of(target),
    }


def _bits(graph: Graph) -> int:
    """7 where products share a weight (ALBERT's layers), else 8.

    Without VNNI an x86 processor overflows on 8 bits but in ONNX Runtime's precise mode, which
    cannot load a weight that two products read (1.32: "replace the existing tensor").
    """
    names = [weight.name for node in graph.proto.node if (weight := graph.weight(node)) is not None]
    return 8 if len(names) == len(set(names)) else 7


class _Work:
    """The products of one graph; an activation that several read is quantised once."""

    def __init__(self, graph: Graph, weights: Int8Weights) -> None:
        self.graph = graph
        self.weights = weights
        self.products = 0
        self._inputs: dict[str, list[str]] = {}

    def product(self, node: Any) -> list[Any]:
        """Return what stands in place of a product; nothing where it stays."""
        weight = self.weights.fits(node)
        if weight is None:
            return []
        self.products += 1
        nodes: list[Any] = []
        matrix = self.weights.matrix(weight, nodes)
        codes, scale, zero = self._quantised(node.input[0], nodes)
        bias = next(iter(node.input[2:3]), "")
        out = node.output[0]
        whole, real, scales, product = [
            self.graph.unique(f"{out}_{part}") for part in ("int32", "float32", "scales", "product")
        ]
        nodes += [
            make("MatMulInteger", [codes, matrix.codes, zero], [whole]),
            make("Cast", [whole], [real], given={"to": 1}),
            make("Mul", [scale, matrix.scales], [scales]),
            make("Mul", [real, scales], [product if bias else out]),
        ]
        if bias:
            nodes.append(make("Add", [product, bias], [out]))
        return nodes

    def _quantised(self, name: str, nodes: list[Any]) -> list[str]:
        if name not in self._inputs:
            parts = [self.graph.unique(f"{name}_{part}") for part in ("uint8", "step", "zero")]
            nodes.append(make("DynamicQuantizeLinear", [name], parts))
            self._inputs[name] = parts
        return self._inputs[name]
