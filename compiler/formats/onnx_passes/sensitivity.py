"""Which weights hurt most at few bits: measured one group after the other, in the real engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.runtimes.proof.bisect_words import layer_of

from .compensate import Key, Samples
from .graph import Graph
from .observe import open_float
from .rounding import Blocks, Floats

MOST_GROUPS = 32
_ROWS = 256
_LOGITS = "logits"
_STATES = "present."
_FAR = 4
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Group:
    """Weights of one shape whose products follow each other; `harm` is what rounding them costs.

    It is the divergence of the logits in nats, else the squared error over the outputs' square;
    `extra_bytes` is what the higher precision takes beside the lower one.
    """

    keys: tuple[Key, ...]
    harm: float
    extra_bytes: int


def measure(
    graph: Graph,
    rounded: Mapping[Key, Blocks],
    samples: Samples,
    scratch: Path,
    progress: Progress = lambda _: None,
) -> list[Group]:
    """Return every group of rounded weights with its harm, all others kept in float.

    There are at most MOST_GROUPS. The float model is loaded once, its weights open to be replaced;
    each group costs one run of some samples, about 256 rows of output, and one group's weights in
    float32.
    """
    groups = grouped({key: blocks.codes.shape for key, blocks in rounded.items()})
    names = outputs_of(graph)
    session = _replaceable(graph, rounded, scratch)
    kept, wanted = references(session, names, samples())
    found = []
    for number, keys in enumerate(groups):
        given = {key[0]: _restored(key, rounded[key], graph) for key in keys}
        run = [session.run(names, {**sample, **given}) for sample in kept]
        harm = harm_of(names, wanted, run)
        extra = sum(rounded[key].codes.size // 2 for key in keys)
        found.append(Group(tuple(keys), harm, extra))
        progress((number + 1) / len(groups))
    return found


def most_harmful(groups: Sequence[Group], *, share: float, left: float) -> list[Group]:
    """Return the groups to raise, by harm for each byte.

    It stops where the others' harm is at most `left` of all harm; a group that would take more
    than `share` of the bytes that all would is passed over.
    """
    whole = sum(group.extra_bytes for group in groups)
    remaining = total = sum(group.harm for group in groups)
    raised: list[Group] = []
    spent = 0
    for group in sorted(groups, key=lambda one: one.harm / max(one.extra_bytes, 1), reverse=True):
        if remaining <= left * total:
            break
        if spent + group.extra_bytes <= share * whole:
            raised.append(group)
            spent += group.extra_bytes
            remaining -= group.harm
    return raised


def divergence(wanted: NDArray[Any], found: NDArray[Any], name: str) -> float:
    """Return how far an output is from what it should be: 0 where it is the same."""
    if name == _LOGITS:
        first, second = _log_shares(wanted), _log_shares(found)
        return float((np.exp(first) * (first - second)).sum(axis=-1).mean())
    exact = wanted.astype(np.float64)
    power = float(np.square(exact).sum())
    return float(np.square(found.astype(np.float64) - exact).sum()) / max(power, 1e-30)


def layers_of(graph: Graph, groups: Sequence[Group]) -> list[str]:
    """Return each group's name: its first and last module, as `bisect` tells layers.

    A product that a fusion made belongs to no module: it has the name of what reads it. Where no
    name is known the weight's own stands for it.
    """
    readers: dict[str, list[Any]] = {}
    for node in graph.proto.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    ends = [(group.keys[0][0], group.keys[-1][0]) for group in groups]
    named = {name: _layer(name, readers) for pair in ends for name in pair}
    return [
        named[first] if first == last else f"{named[first]} … {named[last]}" for first, last in ends
    ]


def _layer(weight: str, readers: Mapping[str, Sequence[Any]]) -> str:
    waiting = [weight]
    for _ in range(_FAR):
        nodes = [node for name in waiting for node in readers.get(name, ())]
        for node in nodes:
            if layer := layer_of(node):
                return layer
        waiting = [name for node in nodes for name in node.output]
    return weight


def outputs_of(graph: Graph) -> list[str]:
    """Return the outputs that harm is told by; a cache is none."""
    return [o.name for o in graph.proto.output if not o.name.startswith(_STATES)]


def grouped(shapes: Mapping[Key, tuple[int, ...]], most: int = MOST_GROUPS) -> list[list[Key]]:
    """Return weights of one shape in runs, as long as it takes for `most` groups to do."""
    by_shape: dict[tuple[int, ...], list[Key]] = {}
    for key, shape in shapes.items():
        by_shape.setdefault(shape, []).append(key)
    runs = list(by_shape.values())
    if len(runs) > most:
        runs = [*runs[: most - 1], [key for run in runs[most - 1 :] for key in run]]
    length = 1
    while sum(-(-len(run) // length) for run in runs) > most:
        length += 1
    return [run[at : at + length] for run in runs for at in range(0, len(run), length)]


def _replaceable(graph: Graph, rounded: Mapping[Key, Blocks], scratch: Path) -> Any:
    """An initializer that is an input as well is a default: a run may give another value."""
    from onnx import helper

    inputs = graph.proto.input
    before = len(inputs)
    for name in dict.fromkeys(key[0] for key in rounded):
        dims = list(graph.initializers[name].dims)
        inputs.append(helper.make_tensor_value_info(name, 1, dims))
    try:
        return open_float(graph.model, (), scratch)
    finally:
        del inputs[before:]


def references(
    session: Any, names: Sequence[str], samples: Iterable[Mapping[str, NDArray[Any]]]
) -> tuple[list[Mapping[str, NDArray[Any]]], list[list[NDArray[Any]]]]:
    """Return as many samples as give about 256 rows of output, and the outputs of each."""
    kept, wanted, rows = [], [], 0
    for sample in samples:
        run = session.run(names, dict(sample))
        kept.append(sample)
        wanted.append(run)
        rows += run[0].size // max(run[0].shape[-1] if run[0].ndim else 1, 1)
        if rows >= _ROWS:
            break
    return kept, wanted


def _restored(key: Key, blocks: Blocks, graph: Graph) -> Floats:
    """A rounded weight as the float table that it takes the place of."""
    name, transposed = key
    rows = blocks.restored(graph.initializers[name].dims[1 if transposed else 0])
    return np.ascontiguousarray(rows if transposed else rows.T)


def harm_of(
    names: Sequence[str],
    wanted: Sequence[Sequence[NDArray[Any]]],
    found: Sequence[Sequence[NDArray[Any]]],
) -> float:
    """Return how far outputs are from what they should be, over all samples."""
    each = [
        divergence(exact, other, name)
        for before, after in zip(wanted, found, strict=True)
        for name, exact, other in zip(names, before, after, strict=True)
        if exact.dtype.kind == "f" and exact.size
    ]
    return float(np.nan_to_num(np.mean(each), nan=1e6, posinf=1e6)) if each else 0.0


def _log_shares(logits: NDArray[Any]) -> Floats:
    moved = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(moved - np.log(np.exp(moved).sum(axis=-1, keepdims=True)), np.float32)
