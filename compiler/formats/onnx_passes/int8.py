"""Weights of a graph as int8 with one float scale for each row: products' columns, tables' rows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .graph import Array, Graph, Weight, attributes, make
from .rounding import round_blocks

_SMALLEST = 1 << 10


@dataclass(frozen=True, slots=True)
class Rows:
    """A matrix [N, K] as int8 and float32 scales [N]: row n is codes[n] * scales[n]."""

    codes: NDArray[np.int8]
    scales: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Matrix:
    """An int8 matrix in the graph: `codes` names [K, N], `scales` names float32 [N]."""

    codes: str
    scales: str


@dataclass(slots=True)
class Int8Weights:
    """Rounds a graph's weights once each; a head tied to its table reads the table's bytes.

    `bits` is of products; a table is only read, so it has 8.
    """

    graph: Graph
    bits: int = 8
    keep: Collection[str] = ()
    tables: int = 0
    tied: int = 0
    _tables: dict[str, tuple[str, str, tuple[int, int]]] = field(default_factory=dict)
    _matrices: dict[tuple[str, bool], Matrix] = field(default_factory=dict)

    def fits(self, node: Any) -> Weight | None:
        """Return the weight of a product that can be int8; None where it cannot, or must not."""
        weight = self.graph.weight(node)
        if weight is None or not self._wanted(node.name, weight.name, weight.table):
            return None
        return weight

    def matrix(self, weight: Weight, before: list[Any]) -> Matrix:
        """Return the weight in the graph; nodes that it needs are appended to `before`."""
        key = (weight.name, weight.transposed)
        if key not in self._matrices:
            tied = self.tied_table(weight)
            if tied is not None:
                codes, scales, _ = tied
                turned = self.graph.unique(f"{codes}_turned")
                before.append(make("Transpose", [codes], [turned], given={"perm": [1, 0]}))
                self._matrices[key] = Matrix(turned, scales)
                self.tied += 1
            else:
                rows = round_rows(weight.rows, self.bits)
                self._matrices[key] = Matrix(
                    self.graph.add(rows.codes.T, f"{weight.name}_int8"),
                    self.graph.add(rows.scales, f"{weight.name}_scale"),
                )
        return self._matrices[key]

    def gather(self, node: Any) -> list[Any]:
        """Return an embedding look-up over int8 rows; nothing where the node is none."""
        if node.op_type != "Gather" or attributes(node).get("axis", 0) != 0:
            return []
        graph, name = self.graph, node.input[0]
        table = graph.array(name)
        if table is None or str(table.dtype) != "float32":
            return []
        if table.ndim != 2 or not self._wanted(node.name, name, table):
            return []
        if name not in self._tables:
            rows = round_rows(table)
            codes = graph.add(rows.codes, f"{name}_int8")
            scales = graph.add(rows.scales, f"{name}_scale")
            self._tables[name] = (codes, scales, (table.shape[0], table.shape[1]))
        self.tables += 1
        codes, scales, _ = self._tables[name]
        last = graph.add(np.array([-1], np.int64), "last_axis")
        steps = [graph.unique(f"{node.output[0]}_{part}") for part in ("i8", "f32", "s", "s1")]
        return [
            make("Gather", [codes, node.input[1]], steps[:1]),
            make("Cast", steps[:1], steps[1:2], given={"to": 1}),
            make("Gather", [scales, node.input[1]], steps[2:3]),
            make("Unsqueeze", [steps[2], last], steps[3:]),
            make("Mul", [steps[1], steps[3]], list(node.output)),
        ]

    def tied_table(self, weight: Weight) -> tuple[str, str, tuple[int, int]] | None:
        """Return the table (codes, scales, shape) that a weight is; None where it is its own."""
        for name, entry in self._tables.items():
            if entry[2] != weight.rows.shape:
                continue
            table = self.graph.array(name)
            if table is not None and np.array_equal(table, weight.rows):
                return entry
        return None

    def _wanted(self, node: str, name: str, table: Array) -> bool:
        return node not in self.keep and name not in self.keep and is_wanted(name, table)


def is_wanted(name: str, table: Array) -> bool:
    """Whether a matrix is worth quantising, and can be."""
    del name
    return table.size >= _SMALLEST and bool(np.isfinite(table).all())


def round_rows(rows: Array, bits: int = 8) -> Rows:
    """Round [N, K] to `bits` (at most 8) around zero, one scale for each row."""
    blocks = round_blocks(rows, bits, rows.shape[1], symmetric=True)
    middle = 1 << (bits - 1)
    codes = (blocks.codes.astype(np.int16) - middle).astype(np.int8).reshape(rows.shape)
    # Engines want scales that are positive.
    flip = blocks.scales < 0
    codes = np.where(flip, np.maximum(codes, 1 - middle), codes)
    codes = np.where(flip, -codes, codes).astype(np.int8)
    scales = np.abs(blocks.scales[:, 0])
    return Rows(codes, np.where(scales > 0, scales, 1).astype(np.float32))
