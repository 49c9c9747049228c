"""Weights alone in 4 or 8 bits: MatMulNBits for products, GatherBlockQuantized for embeddings."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.errors import UnsupportedError, UsageError

from .compensate import Key, Samples, products_of, round_on_samples
from .graph import MICROSOFT, Array, Graph, attributes, make, size_of
from .rounding import Blocks, round_blocks

_KINDS = ("float32", "float16")
_SMALLEST = 1 << 14


def to_blocks(
    source: Path,
    target: Path,
    *,
    bits: int,
    block_size: int = 32,
    symmetric: bool = True,
    table_bits: int | None = None,
    accuracy_level: int = 4,
    keep: Collection[str] = (),
    samples: Samples | None = None,
) -> dict[str, Any]:
    """Round constant matrices and embedding tables to `bits` (4 or 8) in blocks of `block_size`.

    `table_bits` (default: `bits`) is for embedding tables and for the product that gives an output,
    the head; a head tied to its table is stored once with it. `keep` names nodes or weights to
    leave. `accuracy_level` is MatMulNBits's: 4 multiplies in int8, 1 in float32. With `samples`,
    inputs of the graph given anew at each call, 4-bit products are rounded so that what they give
    changes least (see `compensate`). The operators are ONNX Runtime's (com.microsoft). Raises
    UsageError for a size that the operators do not have, UnsupportedError where the graph has
    nothing to round.
    """
    _check(bits, table_bits, block_size)
    graph = Graph(source)
    plan = Plan(bits, table_bits or bits, block_size, symmetric, accuracy_level)
    rounded = {}
    if samples is not None and 4 in (plan.bits, plan.table_bits):
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            rounded = round_on_samples(
                graph,
                products_of(graph, lambda name, table: fits(name, table, keep)),
                samples,
                Path(scratch),
                bits=4,
                block_size=block_size,
                symmetric=symmetric,
            )
    done = write_blocks(graph, target, plan, keep=keep, rounded=rounded)
    return {**done, "bytes_before": size_of(source)}


def write_blocks(
    graph: Graph,
    target: Path,
    plan: Plan,
    *,
    keep: Collection[str] = (),
    rounded: Mapping[Key, Blocks] | None = None,
    raised: Collection[str] = (),
) -> dict[str, Any]:
    """Write the graph rounded as planned; it is changed on the way.

    `rounded` are weights rounded already, taken where they have the bits that are wanted; `raised`
    names weights that take 8 bits whatever the plan says.
    """
    work = _Work(graph, plan, frozenset(keep), rounded or {}, frozenset(raised))
    work.run()
    if not work.products and not work.tables:
        raise UnsupportedError(
            f"int{plan.bits} blocks have nothing to round in this model",
            why="they round matrix products and embeddings",
        )
    graph.use_domain(MICROSOFT)
    graph.save(target)
    return {
        "products": work.products,
        "tables": work.tables,
        "tied": work.tied,
        "compensated": work.compensated,
        "bytes": size_of(target),
    }


def fits(name: str, table: Array, keep: Collection[str] = ()) -> bool:
    """Whether a matrix is worth rounding, and may be."""
    return (
        name not in keep
        and table.ndim == 2
        and str(table.dtype) in _KINDS
        and table.size >= _SMALLEST
        and bool(np.isfinite(table).all())
    )


def _check(bits: int, table_bits: int | None, block_size: int) -> None:
    if bits not in (4, 8) or table_bits not in (None, 4, 8):
        raise UsageError(f"Weights cannot have {bits} bits", why="there are 4 and 8")
    if block_size < 16 or block_size & (block_size - 1):
        raise UsageError(
            f"A block cannot be {block_size} weights", why="it is 16 or more, a power of two"
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of every weight; see `to_blocks`."""

    bits: int
    table_bits: int
    block_size: int
    symmetric: bool = True
    accuracy_level: int = 4


@dataclass(frozen=True, slots=True)
class _Stored:
    """A rounded matrix [N, K] as initializers: packed codes, scales [N, blocks], zeros or ''."""

    codes: str
    scales: str
    zeros: str
    blocks: Blocks
    height: int
    width: int


@dataclass(slots=True)
class _Work:
    graph: Graph
    plan: Plan
    keep: frozenset[str]
    rounded: Mapping[Key, Blocks]
    raised: frozenset[str]
    products: int = 0
    tables: int = 0
    tied: int = 0
    compensated: int = 0
    _products: dict[tuple[str, bool, int], _Stored] = field(default_factory=dict)
    _tables: dict[str, _Stored] = field(default_factory=dict)

    def run(self) -> None:
        """Rewrite every node that can be; tables first, so that heads find theirs."""
        graph = self.graph
        outputs = {o.name for o in graph.proto.output}
        rewritten: dict[int, list[Any]] = {}
        for first in (True, False):
            for position, node in enumerate(graph.proto.node):
                if node.name in self.keep or (node.op_type == "Gather") is not first:
                    continue
                nodes = self._gather(node) if first else self._product(node, outputs)
                if nodes:
                    rewritten[position] = nodes
        graph.replace_nodes(
            [
                twin
                for position, node in enumerate(graph.proto.node)
                for twin in rewritten.get(position, [node])
            ]
        )

    def _gather(self, node: Any) -> list[Any]:
        name, plan = node.input[0], self.plan
        table = self.graph.array(name)
        if (
            attributes(node).get("axis", 0) != 0
            or table is None
            or not fits(name, table, self.keep)
        ):
            return []
        # The operator has no short last block.
        if not fits(name, table, self.keep) or table.shape[1] % plan.block_size:
            return []
        if name not in self._tables:
            self._tables[name] = self._store((name, True), table, plan.table_bits)
        self.tables += 1
        return self._gathered(node, self._tables[name])

    def _gathered(self, node: Any, stored: _Stored) -> list[Any]:
        """GatherBlockQuantized over [N, K * bits / 8]; MatMulNBits has the same bytes as blocks."""
        graph, plan = self.graph, self.plan
        flat = graph.unique(f"{stored.codes}_flat")
        shape = graph.add(np.array([stored.height, -1], np.int64), "flat_shape")
        inputs = [flat, node.input[1], stored.scales]
        if stored.zeros:
            inputs.append(stored.zeros)
        given = {
            "bits": stored.blocks.bits,
            "block_size": plan.block_size,
            "gather_axis": 0,
            "quantize_axis": 1,
        }
        return [
            make("Reshape", [stored.codes, shape], [flat]),
            make("GatherBlockQuantized", inputs, list(node.output), domain=MICROSOFT, given=given),
        ]

    def _product(self, node: Any, outputs: set[str]) -> list[Any]:
        graph, plan = self.graph, self.plan
        weight = graph.weight(node, _KINDS)
        if weight is None or not fits(weight.name, weight.table, self.keep):
            return []
        bias = list(node.input[2:3])
        if bias and bias[0] and not _is_row(graph.array(bias[0]), weight.rows.shape[0]):
            return []
        tied = self._tied(weight.name, weight.rows)
        is_head = bool(outputs.intersection(node.output))
        bits = plan.table_bits if is_head else plan.bits
        key = (weight.name, weight.transposed, bits)
        if tied is not None:
            self._products[key] = tied
            self.tied += 1
        if key not in self._products:
            self._products[key] = self._store(key[:2], weight.rows, bits)
        self.products += 1
        return [self._multiplied(node, self._products[key], bias)]

    def _multiplied(self, node: Any, stored: _Stored, bias: list[str]) -> Any:
        inputs = [node.input[0], stored.codes, stored.scales]
        if stored.zeros or bias:
            inputs.append(stored.zeros)
        if bias:
            inputs += ["", bias[0]]
        given = {
            "K": stored.width,
            "N": stored.height,
            "bits": stored.blocks.bits,
            "block_size": self.plan.block_size,
            "accuracy_level": self.plan.accuracy_level,
        }
        return make("MatMulNBits", inputs, list(node.output), domain=MICROSOFT, given=given)

    def _tied(self, name: str, rows: Array) -> _Stored | None:
        """The table that this head is, whether the exporter kept one copy or wrote two."""
        if name in self._tables and self._tables[name].height == len(rows):
            return self._tables[name]
        for other, stored in self._tables.items():
            if (stored.height, stored.width) != rows.shape:
                continue
            table = self.graph.array(other)
            if table is not None and np.array_equal(table, rows):
                return stored
        return None

    def _store(self, key: Key, rows: Array, bits: int) -> _Stored:
        plan, graph, name = self.plan, self.graph, key[0]
        bits = 8 if name in self.raised else bits
        blocks = self.rounded.get(key)
        if blocks is not None and blocks.bits == bits:
            self.compensated += 1
        else:
            blocks = round_blocks(rows, bits, plan.block_size, plan.symmetric)
        zeros = blocks.packed_zeros()
        return _Stored(
            codes=graph.add(blocks.packed(), f"{name}_q{bits}"),
            scales=graph.add(blocks.scales.astype(rows.dtype), f"{name}_scales"),
            zeros="" if zeros is None else graph.add(zeros, f"{name}_zeros"),
            blocks=blocks,
            height=rows.shape[0],
            width=rows.shape[1],
        )


def _is_row(bias: Array | None, width: int) -> bool:
    return bias is not None and bias.shape == (width,)
