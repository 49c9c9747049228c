"""Where integers for activations cannot be right, told by the configuration and by the graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgeward.errors import UnsupportedError
from edgeward.runtimes.engines.litert_file import FileGraph, TFLiteFile
from edgeward.runtimes.tasks.labels import read_config

_HEADS = ("attention_heads", "n_head", "n_heads", "num_heads")
_WHY = (
    "it has attention: products of two activations, whose softmax and norms need ranges that 256 "
    "steps for a whole tensor do not have (MiniLM keeps a cosine of 0.75 at best)"
)
_PRODUCT, _DENSE = "BATCH_MATMUL", "FULLY_CONNECTED"
# The smallest block that kernels know.
_BLOCK = 32
_IN_BLOCKS, _NEWEST = "int4-weights", "litert"
_NEXT = "edgeward compile … --format tflite --precision int8-dynamic"


def refuse_newer(precision: str, engine: str) -> None:
    """Raise UnsupportedError for weights in blocks where the engine is of before they came."""
    if precision == _IN_BLOCKS and engine != _NEWEST:
        raise UnsupportedError(
            f"{engine} does not load {precision}",
            why="its kernels know no weights in blocks: tflite-runtime 2.14 ends the process",
            next="edgeward compile … --format tflite --precision int8-weights",
        )


def refuse_static_attention(folder: Path, architecture: str) -> None:
    """Raise UnsupportedError where the configuration tells of attention heads."""
    if any(_has_heads(part) for part in _parts(read_config(folder))):
        raise _refusal(architecture)


def refuse_static_graph(told: TFLiteFile) -> None:
    """Raise UnsupportedError where a graph multiplies activations with each other."""
    if any(_multiplies_activations(graph) for graph in told.graphs):
        raise _refusal("This graph")


def float_products(told: TFLiteFile) -> list[str]:
    """Return the outputs of products that are to stay in float, by name: constants on their left.

    The quantiser rounds whichever side is constant; LiteRT's kernel takes int8 on the right alone.
    It refuses a file with a left one, and of two it makes infinities, without an error.
    """
    return [
        graph.tensors[operator.outputs[0]].name
        for graph in told.graphs
        for operator in graph.operators
        if operator.name == _PRODUCT and graph.tensors[operator.inputs[0]].constant
    ]


def unblocked_products(told: TFLiteFile) -> list[str]:
    """Return the outputs of dense layers, by name, whose rows of weights no block divides."""
    return [
        graph.tensors[operator.outputs[0]].name
        for graph in told.graphs
        for operator in graph.operators
        if operator.name == _DENSE
        and graph.tensors[operator.inputs[1]].constant
        and graph.tensors[operator.inputs[1]].shape[-1] % _BLOCK
    ]


def _refusal(what: str) -> UnsupportedError:
    return UnsupportedError(f"{what} cannot be int8 throughout", why=_WHY, next=_NEXT)


def _parts(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield config
    yield from (part for part in config.values() if isinstance(part, Mapping))


def _has_heads(config: Mapping[str, Any]) -> bool:
    named = (value for name, value in config.items() if name.endswith(_HEADS))
    return any(isinstance(value, list) or (isinstance(value, int) and value > 0) for value in named)


def _multiplies_activations(graph: FileGraph) -> bool:
    return any(
        operator.name == _PRODUCT
        and not any(graph.tensors[index].constant for index in operator.inputs)
        for operator in graph.operators
    )
