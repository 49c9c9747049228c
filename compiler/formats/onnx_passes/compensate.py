"""Rounding that pays for itself: what one column loses, the columns after it make good.

GPTQ (Frantar et al. 2022) on the second moments of what each product reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .graph import Array, Graph, attributes
from .observe import Inputs, second_moments
from .rounding import Blocks, Codes, Floats, best_of

Samples = Callable[[], Iterable[Inputs]]
# A weight's name, and whether its table is [N, K].
Key = tuple[str, bool]
_DAMPING = 0.01
_CHUNK_ROWS = 1024
_BUDGET_BYTES = 1 << 29


def products_of(graph: Graph, fits: Callable[[str, Array], bool]) -> dict[Key, list[Any]]:
    """Return the products of each weight that fits, in the graph's order."""
    found: dict[Key, list[Any]] = {}
    for node in graph.proto.node:
        weight = graph.weight(node)
        if weight is None:
            continue
        key = (weight.name, weight.transposed)
        if key in found or fits(weight.name, weight.table):
            found.setdefault(key, []).append(node)
    return found


def tables_of(
    graph: Graph, fits: Callable[[str, Array], bool], block_size: int
) -> dict[Key, Array]:
    """Return the tables of whole blocks that rows are looked up in."""
    found: dict[Key, Array] = {}
    for node in graph.proto.node:
        if node.op_type != "Gather" or attributes(node).get("axis", 0):
            continue
        table = graph.array(node.input[0])
        if table is not None and fits(node.input[0], table) and not table.shape[1] % block_size:
            found[node.input[0], True] = table
    return found


def round_on_samples(
    graph: Graph,
    products: Mapping[Key, Sequence[Any]],
    samples: Samples,
    scratch: Path,
    *,
    bits: int,
    block_size: int,
    symmetric: bool = True,
) -> dict[Key, Blocks]:
    """Round each weight with the moments of what its products read beside it.

    The samples are run as often as it takes for a pass's moments, K x K floats for each value, to
    stay under half a gigabyte: time grows with the samples and with N K^2 of each weight [N, K].
    A weight that no sample reaches is left out.
    """
    rounded: dict[Key, Blocks] = {}
    for group in _groups(graph, products):
        names = {node.input[0] for key in group for node in products[key]}
        moments = second_moments(graph.model, names, samples(), scratch / "opened.onnx")
        for key in group:
            values = sorted({node.input[0] for node in products[key]})
            seen = [moments[value] for value in values if value in moments]
            weight = graph.weight(products[key][0])
            if seen and weight is not None:
                rounded[key] = compensated(
                    weight.rows, sum(seen[1:], seen[0]), bits, block_size, symmetric
                )
    return rounded


def compensated(
    rows: NDArray[Any], moments: Floats, bits: int, block_size: int, symmetric: bool = True
) -> Blocks:
    """Round [N, K] so that its products with values of these moments [K, K] change least.

    Columns are rounded one after the other; the error of each is spread over those after it. A
    block's scale is searched when its turn comes, weighed by what its columns cannot pass on.
    """
    count, width = rows.shape
    blocks = -(-width // block_size)
    factor = _factor(moments, blocks * block_size)
    codes = np.empty((count, blocks, block_size), np.uint8)
    scales = np.empty((count, blocks), np.float32)
    zeros = np.empty((count, blocks), np.uint8)
    for start in range(0, count, _CHUNK_ROWS):
        part = slice(start, start + _CHUNK_ROWS)
        columns = np.zeros((blocks * block_size, len(rows[part])), np.float32)
        columns[:width] = rows[part].T
        for block in range(blocks):
            at = slice(block * block_size, (block + 1) * block_size)
            found = _round_block(columns, at, factor, bits, symmetric)
            codes[part, block], scales[part, block], zeros[part, block] = found
    return Blocks(codes, scales, None if symmetric else zeros, bits)


def _round_block(
    columns: Floats, at: slice, factor: Floats, bits: int, symmetric: bool
) -> tuple[Codes, Floats, Codes]:
    """Round some columns of [K, N] (rows here), spreading their errors over all after them."""
    own = factor[at, at]
    importance = np.square(1 / np.diag(own))
    best = best_of(
        np.ascontiguousarray(columns[at].T), bits, symmetric, importance / importance.max()
    )
    zero = best.zeros.astype(np.float32)
    inverse = 1 / np.where(best.scales == 0, 1, best.scales)
    block = columns[at]
    codes, errors = np.empty_like(block), np.empty_like(block)
    for number, column in enumerate(block):
        codes[number] = np.clip(np.rint(column * inverse) + zero, 0, best.top)
        errors[number] = (column - (codes[number] - zero) * best.scales) / own[number, number]
        block[number + 1 :] -= own[number, number + 1 :, None] * errors[number]
    columns[at.stop :] -= factor[at, at.stop :].T @ errors
    return codes.T.astype(np.uint8), best.scales, best.zeros


def _factor(moments: Floats, width: int) -> Floats:
    """The upper Cholesky factor of the damped moments' inverse, filled up to `width`."""
    count = len(moments)
    damped = moments.astype(np.float64)
    damped[np.diag_indices(count)] += _DAMPING * (np.trace(damped) / count or 1.0)
    lower = np.linalg.cholesky(damped[::-1, ::-1])
    factor = np.eye(width, dtype=np.float32)
    factor[:count, :count] = np.triu(np.linalg.inv(lower[::-1, ::-1]))
    # What is smaller than any float's normal range would only slow the products down.
    factor[np.abs(factor) < np.finfo(np.float32).tiny] = 0
    return factor


def _groups(graph: Graph, products: Mapping[Key, Sequence[Any]]) -> Iterator[list[Key]]:
    """Weights in turn, as many as whose moments the budget holds; one at least."""
    group: list[Key] = []
    held: dict[str, int] = {}
    for key, nodes in products.items():
        weight = graph.weight(nodes[0])
        width = weight.rows.shape[1] if weight is not None else 0
        wanted = dict.fromkeys((node.input[0] for node in nodes), width**2 * 4)
        if group and sum({**held, **wanted}.values()) > _BUDGET_BYTES:
            yield group
            group, held = [], {}
        group.append(key)
        held |= wanted
    if group:
        yield group
