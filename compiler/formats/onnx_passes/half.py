"""A graph in float16 or bfloat16, with what those cannot hold left in float32."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.errors import UnsupportedError

from .graph import Array, Graph, attributes, make, size_of
from .types import Typed

# Squares, sums, exponents and their inverses leave float16's range first: the middle of a
# decomposed RMSNorm, of a GELU, of a log-softmax.
_WIDE = frozenset(
    {
        *("Pow", "Sqrt", "Reciprocal", "Exp", "Log", "Erf", "Softplus", "CumSum", "Range"),
        *(
            "ReduceMean",
            "ReduceSum",
            "ReduceSumSquare",
            "ReduceL2",
            "ReduceLogSumExp",
            "Sin",
            "Cos",
        ),
        *("Bernoulli", "Multinomial", "RandomNormal", "RandomUniform"),
    }
)
_ANGLES = frozenset({"Sin", "Cos"})
_BETWEEN = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "Neg", "Clip"})
_LARGE = 1 << 16
_MASK = 1e30
_LIMITS = {"float16": (65504.0, 2.0**-25), "bfloat16": (3.3895313892515355e38, 9.2e-41)}
# Half the range, so that the sum of a mask and a score, or of two masks, is still finite.
_MASKED = {"float16": -32752.0, "bfloat16": -1.6947656946257677e38}


def to_float16(
    source: Path, target: Path, *, bfloat16: bool = False, keep_io: bool = True
) -> dict[str, Any]:
    """Store and compute in float16 (or bfloat16); with `keep_io` inputs and outputs stay float32.

    Every edge has one type, with Casts where a node stays in float32: operators whose schema has no
    half float, sums of squares, exponentials, rotary angles, and nodes that read a constant that
    half floats cannot hold. Mask constants such as -3.4e38 become large finite negatives:
    infinities would give NaN where a whole row is masked. Raises UnsupportedError where nothing is
    float32.
    """
    graph = Graph(source)
    half = "bfloat16" if bfloat16 else "float16"
    work = _Work(graph, Typed(graph, half), half, keep_io)
    if not any(ports.free_in or ports.free_out for ports in work.typed.ports):
        raise UnsupportedError(f"{half} has nothing to convert", why="the graph has no float32")
    work.run()
    graph.save(target)
    return {
        "casts": work.casts,
        "wide_nodes": len(work.wide),
        "clamped": work.clamped,
        "bytes_before": size_of(source),
        "bytes": size_of(target),
    }


@dataclass(slots=True)
class _Work:
    graph: Graph
    typed: Typed
    half: str
    keep_io: bool
    wide: set[int] = field(default_factory=set)
    casts: int = 0
    clamped: int = 0
    _halves: set[str] = field(default_factory=set)
    _cast: dict[tuple[str, bool], str] = field(default_factory=dict)
    _out: list[Any] = field(default_factory=list)

    def run(self) -> None:
        """Choose who stays wide, convert the weights, put Casts where the two meet."""
        self.wide = self._wide_nodes()
        self._convert_borders()
        self._convert_initializers()
        for position, node in enumerate(self.graph.proto.node):
            self._convert(position, node)
        self._restore_outputs()
        self.graph.replace_nodes(self._out)
        self._retype_infos()

    def _wide_nodes(self) -> set[int]:
        nodes = list(self.graph.proto.node)
        by_output = {name: at for at, node in enumerate(nodes) for name in node.output if name}
        wide: set[int] = set()
        for at, node in enumerate(nodes):
            if node.op_type in _ANGLES:
                wide |= self._cone(at, by_output)
            if (
                node.op_type in _WIDE
                or self._reads_unfit(node)
                or self._meets_subgraph(node)
                or (node.op_type in _BETWEEN and self._lies_between(node, by_output, wide))
            ):
                wide.add(at)
        return wide

    def _cone(self, at: int, by_output: dict[str, int]) -> set[int]:
        """All that makes an angle: positions past 2048 are no float16 integers.

        The node alone where a layer of the model lies in what makes it.
        """
        seen, waiting = {at}, [at]
        while waiting:
            for name in self.graph.proto.node[waiting.pop()].input:
                tensor = self.graph.initializers.get(name)
                if tensor is not None and int(np.prod(tensor.dims)) > _LARGE:
                    return {at}
                before = by_output.get(name)
                if before is not None and before not in seen and self.typed.is_float(name):
                    seen.add(before)
                    waiting.append(before)
        return seen

    def _lies_between(self, node: Any, by_output: dict[str, int], wide: set[int]) -> bool:
        """Whether all floats that a node reads are wide already: the epsilon of a norm."""
        made = [by_output[i] for i in node.input if i in by_output and self.typed.is_float(i)]
        given = {i.name for i in self.graph.proto.input}
        return bool(made) and wide.issuperset(made) and not given.intersection(node.input)

    def _reads_unfit(self, node: Any) -> bool:
        return any(self.typed.is_float(i) and self._unfit(self.graph.array(i)) for i in node.input)

    def _unfit(self, values: Array | None) -> bool:
        """Whether a constant is neither a half float nor a mask."""
        if values is None or not values.size:
            return False
        most, least = _LIMITS[self.half]
        size = np.abs(values[np.isfinite(values)])
        if not size.size:
            return False
        vanishes = values.size <= 16 and bool(((size > 0) & (size <= least)).any())
        return vanishes or bool(((size > most) & (size < _MASK)).any())

    def _meets_subgraph(self, node: Any) -> bool:
        inner = any(a.HasField("g") or a.graphs for a in node.attribute)
        return inner or not self.graph.captured.isdisjoint(node.output)

    def _convert_borders(self) -> None:
        if self.keep_io:
            return
        for info in self.graph.proto.input:
            if self.typed.is_float(info.name) and info.name not in self.graph.captured:
                self._halves.add(info.name)

    def _convert_initializers(self) -> None:
        """A weight that any half node reads is stored as half."""
        wanted = set()
        for at, node in enumerate(self.graph.proto.node):
            if at not in self.wide:
                ports = self.typed.ports[at]
                wanted |= {node.input[i] for i in ports.free_in}
        outputs = {o.name for o in self.graph.proto.output}
        for name in sorted(wanted & set(self.graph.initializers) - self.graph.captured - outputs):
            values = self.graph.array(name)
            if values is not None and not self._unfit(values):
                self.graph.initializers[name].CopyFrom(self._tensor(values, name))
                self._halves.add(name)

    def _tensor(self, values: Array, name: str) -> Any:
        import ml_dtypes
        from onnx import numpy_helper

        most, _ = _LIMITS[self.half]
        over = np.isfinite(values) & (np.abs(values) > most)
        if over.any():
            self.clamped += 1
            values = np.where(over, np.where(values < 0, _MASKED[self.half], most), values)
        wanted = np.float16 if self.half == "float16" else ml_dtypes.bfloat16
        return numpy_helper.from_array(values.astype(wanted), name)

    def _convert(self, at: int, node: Any) -> None:
        ports = self.typed.ports[at]
        narrow = at not in self.wide
        if node.op_type == "Cast":
            # A Cast reads any float as it is.
            narrow = narrow and bool(ports.free_out)
        else:
            for place in ports.free_in | ports.fixed_in:
                node.input[place] = self._as(node.input[place], narrow and place in ports.free_in)
        if narrow:
            self._set_type(node)
            self._halves |= {node.output[i] for i in ports.free_out}
        self._out.append(node)

    def _set_type(self, node: Any) -> None:
        """What an operator makes floats of by an attribute, it makes half floats of."""
        from onnx import TensorProto

        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT:
                attribute.i = self._number()
        given = attributes(node)
        if node.op_type == "ConstantOfShape" and self.typed.is_float(node.output[0]):
            value = self._filling(given.get("value"))
            del node.attribute[:]
            node.attribute.add(name="value", type=4).t.CopyFrom(self._tensor(value, "value"))

    def _filling(self, tensor: Any) -> Array:
        from onnx import numpy_helper

        return np.zeros(1, np.float32) if tensor is None else numpy_helper.to_array(tensor)

    def _as(self, name: str, half: bool) -> str:
        """The name under which a float value has this type here; a Cast makes it the first time."""
        if (name in self._halves) is half:
            return name
        if (name, half) not in self._cast:
            twin = self.graph.unique(f"{name}_{self.half if half else 'float32'}")
            to = self._number() if half else 1
            self._out.append(make("Cast", [name], [twin], given={"to": to}))
            self._cast[name, half] = twin
            self.casts += 1
        return self._cast[name, half]

    def _restore_outputs(self) -> None:
        """An output keeps its name and, with `keep_io`, its float32."""
        if not self.keep_io:
            return
        inputs = {i.name for i in self.graph.proto.input}
        for output in self.graph.proto.output:
            name = output.name
            if name not in self._halves or name in inputs:
                continue
            inner = self.graph.unique(f"{name}_{self.half}")
            for node in self._out:
                _rename(node.input, name, inner)
                _rename(node.output, name, inner)
            self._out.append(make("Cast", [inner], [name], given={"to": 1}))
            self.casts += 1
            self._halves.discard(name)
            self._halves.add(inner)

    def _retype_infos(self) -> None:
        """Recorded types follow; shapes stay."""
        proto = self.graph.proto
        for info in [*proto.value_info, *proto.input, *proto.output]:
            if info.name in self._halves:
                info.type.tensor_type.elem_type = self._number()

    def _number(self) -> int:
        from onnx import TensorProto

        return int(getattr(TensorProto, self.half.upper()))


def _rename(names: Any, old: str, new: str) -> None:
    for place, name in enumerate(names):
        if name == old:
            names[place] = new
