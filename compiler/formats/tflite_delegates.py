"""Which operators of a TFLite graph a delegate leaves to the plain kernels.

XNNPACK is asked: the runtime that converts has it. Of the others their sources and makers tell
(`tflite_delegate_tables.py`); what they say of types beside that only a device shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgeward.runtimes.engines.litert_file import FileGraph, FileOperator, TFLiteFile

from .tflite_delegate_tables import DELEGATES, Delegate

XNNPACK = "XNNPACK"
_DELEGATE = "DELEGATE"


def left_out(path: Path, told: TFLiteFile) -> dict[str, Counter[str]]:
    """Return what each delegate leaves of the first signature; one that takes no floats lacks."""
    graph = told.graphs[told.signatures[0].graph]
    found = {XNNPACK: left_by_xnnpack(path, graph)}
    for delegate in DELEGATES:
        if delegate.integers and not is_integer(told):
            continue
        reasons = (left_by(delegate, graph, one) for one in graph.operators)
        found[delegate.name] = Counter(filter(None, reasons))
    return found


def left_by(delegate: Delegate, graph: FileGraph, operator: FileOperator) -> str:
    """Return an operator as it is told, with why, where a delegate leaves it; else nothing."""
    if operator.name not in delegate.operators:
        return operator.name
    tensors = [graph.tensors[i] for i in (*operator.inputs, *operator.outputs) if i >= 0]
    if not delegate.takes_blocks and any(one.blocks for one in tensors):
        return f"{operator.name} in blocks"
    most = max((_axes(one.shape, delegate) for one in tensors if not one.constant), default=0)
    return f"{operator.name} of {most} axes" if 0 < delegate.most_axes < most else ""


def _axes(shape: tuple[int, ...], delegate: Delegate) -> int:
    if not delegate.skips_ones:
        return len(shape)
    return next((len(shape) - place for place, length in enumerate(shape) if length != 1), 0)


def left_by_xnnpack(path: Path, graph: FileGraph) -> Counter[str]:
    """Ask the runtime which operators of the first signature stay outside of its delegate."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    parts = [one for one in interpreter._get_ops_details() if one["op_name"] == _DELEGATE]
    inside: set[int] = set()
    for part in parts:
        inside |= absorbed(graph, set(map(int, part["inputs"])), map(int, part["outputs"]))
    return Counter(one.name for n, one in enumerate(graph.operators) if n not in inside)


def absorbed(graph: FileGraph, given: set[int], outputs: Iterable[int]) -> set[int]:
    """Return the operators, by number, between a part's inputs and its outputs."""
    makers = {index: n for n, one in enumerate(graph.operators) for index in one.outputs}
    found: set[int] = set()
    waiting = list(outputs)
    while waiting:
        maker = makers.get(waiting.pop())
        if maker is None or maker in found:
            continue
        found.add(maker)
        waiting += [i for i in graph.operators[maker].inputs if i not in given]
    return found


def is_integer(told: TFLiteFile) -> bool:
    """Whether the first signature takes and gives integers for numbers: nothing in it is float."""
    first = told.signatures[0]
    tensors = told.graphs[first.graph].tensors
    ends = (*first.inputs.values(), *first.outputs.values())
    return all(tensors[index].dtype in ("int8", "uint8") for index in ends)


def words(left: Mapping[str, Counter[str]]) -> str:
    """Say what each leaves."""
    told = []
    for name, counted in left.items():
        listed = ", ".join(f"{operator} {count}" for operator, count in sorted(counted.items()))
        told.append(f"{name} leaves {listed or 'nothing'}")
    return "; ".join(told)
