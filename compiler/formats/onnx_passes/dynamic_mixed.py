"""Dynamic int8 with the products that lose most kept in float."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeward.errors import UnsupportedError

from .compensate import Key, Samples, products_of
from .dynamic import to_dynamic
from .graph import Graph
from .int8 import is_wanted
from .observe import open_float
from .sensitivity import (
    Group,
    Progress,
    grouped,
    harm_of,
    layers_of,
    most_harmful,
    outputs_of,
    references,
)

_MOST_GROUPS = 16
_FLOAT_BYTES_MORE = 3


def to_dynamic_mixed(
    source: Path,
    target: Path,
    samples: Samples,
    *,
    share: float,
    left: float,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Rewrite as `to_dynamic` does all but what `most_harmful` keeps; `layers` says which and why.

    Each of at most 16 groups of products is quantised alone, loaded, and run on some samples: its
    activations' rounding counts as well as its weights'. That is one graph written and loaded a
    group. Raises UnsupportedError where the graph has no such product.
    """
    graph = Graph(source)
    products = products_of(graph, is_wanted)
    if not products:
        raise UnsupportedError(
            "int8-mixed has nothing to quantise in this model", why="it quantises matrix products"
        )
    sizes = {key: _size(graph, key) for key in products}
    groups: list[Group] = []
    names = outputs_of(graph)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        scratch = Path(folder) / "alone.onnx"
        kept, wanted = references(open_float(graph.model, (), scratch), names, samples())
        for keys in grouped(sizes, _MOST_GROUPS):
            others = {key[0] for key in products} - {key[0] for key in keys}
            to_dynamic(source, scratch, tables=False, keep=others)
            session = open_float(Graph(scratch).model, (), scratch)
            harm = harm_of(names, wanted, [session.run(names, dict(one)) for one in kept])
            extra = sum(rows * columns for rows, columns in map(sizes.__getitem__, keys))
            groups.append(Group(tuple(keys), harm, extra * _FLOAT_BYTES_MORE))
            progress(sum(len(group.keys) for group in groups) / len(products))
    raised = most_harmful(groups, share=share, left=left)
    done = to_dynamic(source, target, keep=_names(raised))
    return {
        **done,
        "layers": [
            {
                "name": layer[:200],
                "weights": len(group.keys),
                "bits": 32 if group in raised else 8,
                "error": group.harm,
            }
            for layer, group in zip(layers_of(graph, groups), groups, strict=True)
        ],
    }


def _names(groups: Sequence[Group]) -> frozenset[str]:
    return frozenset(key[0] for group in groups for key in group.keys)


def _size(graph: Graph, key: Key) -> tuple[int, int]:
    rows, columns = graph.initializers[key[0]].dims
    return (rows, columns) if key[1] else (columns, rows)
