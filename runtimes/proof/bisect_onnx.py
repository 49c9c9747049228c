"""Which layer of an ONNX artifact departs first from the float graph that it was made of.

Each layer is judged by what it adds itself: the artifact is cut at every tensor that the float
graph has too, each piece is fed the float graph's own values, and what comes out is compared. So
the drift that every quantised graph gathers on its way does not count against a later layer.
"""

from __future__ import annotations

import importlib
import math
import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.errors import BundleError, EngineError, UsageError
from edgeward.runtimes.engines.base import EngineOptions, Tensor

from .bisect_words import Bisection, Departure, layer_of, scope_of

Arrays = Mapping[str, Tensor]

TOLERANCE = 1e-3
JUMP = 10.0
MOST_WORST = 10
CHUNK_BYTES = 64 << 20

_DTYPES = {"tensor(float)": "f4", "tensor(float16)": "f2", "tensor(double)": "f8"}
_NOISE = 1e-6
_MASK, _MASK_IN_HALF = 1e30, 1e4
_OWN = "@own"
_QUANTISERS_ENDING = re.compile(r"_(DequantizeLinear_Output(_\d+)?|QuantizeLinear_Input)$")
_QUANTISED = re.compile(r"[Qq]uantize|Integer|QLinear|QGemm|QAttention|NBits|Bnb4")
_ERRORS_ONLY = 3


@dataclass(frozen=True, slots=True)
class _Pair:
    """A tensor of the reference and its counterpart; certain unless only a name says so."""

    reference: str
    artifact: str
    certain: bool


@dataclass(frozen=True, slots=True)
class _Match:
    """Pairs in the reference's order, and where the artifact can be cut, with what it is fed."""

    pairs: Sequence[_Pair]
    reference_shapes: Mapping[str, tuple[int, ...]]
    artifact_types: Mapping[str, str]
    cuts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Reading:
    """A comparison, whether its piece computes in quantised numbers, and what it is fed."""

    found: Departure
    quantised: bool
    parents: frozenset[str]


def bisect(
    reference: Path,
    artifact: Path,
    inputs: Mapping[str, Tensor],
    *,
    threads: int = 1,
    tolerance: float = TOLERANCE,
) -> Bisection:
    """Run both graphs on `inputs` and name the first layer whose own error stands out.

    A layer departs where its own error is above `tolerance` and above JUMP times what is usual in
    this artifact for its kind (quantised or not), and the error goes on behind it; a value that is
    not finite in the artifact alone always does. Raises UsageError where the inputs or the graphs
    do not fit together, BundleError for a file that is no ONNX graph, EngineError where onnx or
    ONNX Runtime is missing or ONNX Runtime refuses a graph.
    """
    count = EngineOptions(threads=threads).threads
    first, second = _Graph(reference, count), _Graph(artifact, count)
    _refuse_other_inputs(first, second, inputs)
    given = {name: np.asarray(inputs[name]) for name in first.inputs}
    match = _match(first, second, given)
    if not match.pairs:
        what = f"No tensor of {artifact.name} is one of {reference.name}"
        raise UsageError(what, why="neither their names nor their modules agree")
    readings = [r for chunk in _chunks(match) for r in _read(first, second, match, given, chunk)]
    found = [reading.found for reading in readings]
    return Bisection(
        first=_first(readings, tolerance, _goes_on(readings, tolerance, second.outputs)),
        worst=tuple(sorted(found, key=lambda one: -one.own_error)[:MOST_WORST]),
        compared=len(found),
        end=max((one.relative_error for one in found if one.tensor in second.outputs), default=0.0),
    )


def relative_error(reference: Tensor, actual: Tensor) -> float:
    """Return the root mean square of the difference over the reference's, both of any float.

    Infinite for another shape and for what is not finite in `actual` alone. A masked score is
    equal however low a precision can write it; what the reference leaves undefined is left out.
    """
    if reference.shape != actual.shape:
        return math.inf
    first, second = reference.astype(np.float64), actual.astype(np.float64)
    masked = (np.abs(first) >= _MASK) & (np.abs(second) >= _MASK_IN_HALF)
    kept = ~(np.isnan(first) | (masked & (np.sign(first) == np.sign(second))))
    if not kept.any():
        return 0.0
    first, second = first[kept], second[kept]
    with np.errstate(over="ignore", invalid="ignore"):
        scale = max(math.sqrt(float(np.mean(first**2))), _NOISE)
        error = math.sqrt(float(np.mean((second - first) ** 2))) / scale
    return error if math.isfinite(error) else math.inf


def _first(readings: Sequence[_Reading], tolerance: float, goes_on: set[str]) -> Departure | None:
    for reading in readings:
        found = reading.found
        if math.isinf(max(found.relative_error, found.own_error)):
            return found
        bound = max(tolerance, JUMP * _usual(readings, reading))
        if found.own_error > bound and found.tensor in goes_on:
            return found
    return None


def _usual(readings: Sequence[_Reading], one: _Reading) -> float:
    """The median own error of the other pieces of this kind that add any."""
    others = [r.found for r in readings if r is not one and r.quantised == one.quantised]
    errors = [other.own_error for other in others if _NOISE < other.own_error < math.inf]
    return float(np.median(errors)) if errors else 0.0


def _goes_on(readings: Sequence[_Reading], tolerance: float, outputs: Collection[str]) -> set[str]:
    """The tensors whose error a later one shows too, the outputs, and those that none reads.

    An error that nothing behind it shows is masked away, or two tensors share a name by chance.
    """
    read = {name for reading in readings for name in reading.parents}
    wrong = [one for one in readings if one.found.relative_error > tolerance]
    shown = {name for reading in wrong for name in reading.parents}
    return shown | set(outputs) | ({one.found.tensor for one in readings} - read)


def _read(
    reference: _Graph, artifact: _Graph, match: _Match, inputs: Arrays, chunk: Sequence[_Pair]
) -> Iterator[_Reading]:
    """Compare a chunk: the artifact run from its inputs, and run in pieces."""
    cuts, types = match.cuts, match.artifact_types
    names = [pair.artifact for pair in chunk]
    pieces = {name: artifact.piece([name], cuts) for name in names}
    fed = sorted({cut for _, reached in pieces.values() for cut in reached})
    wanted = {pair.reference for pair in chunk} | {cuts[cut] for cut in fed}
    original = reference.run(inputs, sorted(wanted), {})
    free = artifact.run(inputs, names, {})
    forced = {cut: _as_type(original[cuts[cut]], types[cut]) for cut in fed}
    own = artifact.run(inputs, names, forced)
    for pair in chunk:
        name, value = pair.artifact, original[pair.reference]
        before, after = reference.node(pair.reference), artifact.node(name)
        nodes, reached = pieces[name]
        found = Departure(
            tensor=name,
            layer=layer_of(before) or layer_of(after) or before.name or pair.reference,
            op_type=(after if _QUANTISERS_ENDING.search(name) else before).op_type,
            relative_error=relative_error(value, free[name]),
            shape=value.shape,
            own_error=relative_error(value, own[name]),
        )
        quantised = any(_QUANTISED.search(artifact.nodes[at].op_type) for at in nodes)
        yield _Reading(found, quantised, frozenset(reached))


def _match(reference: _Graph, artifact: _Graph, inputs: Arrays) -> _Match:
    """The pairs that are float in both; those of a name and another shape only where certain."""
    pairs = _pairs(reference, artifact)
    wanted = reference.survey(inputs, sorted({pair.reference for pair in pairs}))
    actual = artifact.survey(inputs, sorted({pair.artifact for pair in pairs}))
    pairs = [pair for pair in pairs if pair.reference in wanted and pair.artifact in actual]
    fitting = {p.artifact for p in pairs if wanted[p.reference][1] == actual[p.artifact][1]}
    return _Match(
        pairs=[pair for pair in pairs if pair.certain or pair.artifact in fitting],
        reference_shapes={name: shape for name, (_, shape) in wanted.items()},
        artifact_types={name: kind for name, (kind, _) in actual.items()},
        cuts={pair.artifact: pair.reference for pair in pairs if pair.artifact in fitting},
    )


def _pairs(reference: _Graph, artifact: _Graph) -> list[_Pair]:
    """Pairs in the reference's order: by name, else the last tensors of the same scope."""
    named: dict[str, list[str]] = {}
    for name in artifact.producers:
        plain = name if name in reference.producers else _QUANTISERS_ENDING.sub("", name)
        named.setdefault(plain, []).append(name)
    pairs = []
    for plain in reference.producers:
        before = reference.node(plain)
        scope = scope_of(before)
        names = [n for n in named.get(plain, ()) if _agree(scope, scope_of(artifact.node(n)))]
        last = artifact.last_of_scope.get(scope)
        if not names and last and reference.last_of_scope.get(scope) == plain:
            names = [last] if last not in reference.producers else []
        for name in names:
            same = name == plain and before.op_type == artifact.node(name).op_type
            pairs.append(_Pair(plain, name, certain=same or name in artifact.outputs))
    return pairs


def _agree(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether one of two scopes' modules holds the other, or one is not told.

    Exporters count their tensors: two exports may give one number to different tensors.
    """
    both = zip(first[:-1], second[:-1], strict=False)
    return not first or not second or all(one == other for one, other in both)


def _chunks(match: _Match) -> Iterator[list[_Pair]]:
    """As many pairs at once as their float32 values fit in CHUNK_BYTES."""
    chunk: list[_Pair] = []
    room = 0
    for pair in match.pairs:
        size = 4 * math.prod(match.reference_shapes[pair.reference])
        if chunk and size > room:
            yield chunk
            chunk = []
        room = (room if chunk else CHUNK_BYTES) - size
        chunk.append(pair)
    yield chunk


def _refuse_other_inputs(reference: _Graph, artifact: _Graph, inputs: Arrays) -> None:
    wanted, actual = sorted(reference.inputs), sorted(artifact.inputs)
    if wanted != actual:
        what = f"{artifact.path.name} was not made of {reference.path.name}"
        why = f"its inputs are {', '.join(actual)}; the other's are {', '.join(wanted)}"
        raise UsageError(what, why=why)
    if missing := [name for name in wanted if name not in inputs]:
        raise UsageError("An input is missing", why=f"no array is given for {', '.join(missing)}")


class _Graph:
    """An ONNX graph, of which any part can be run with any tensor visible."""

    def __init__(self, path: Path, threads: int) -> None:
        self._onnx = _module("onnx", "onnx")
        self._runtime = _module("onnxruntime", "'edgeward[onnx]'")
        self.path, self._threads = path, threads
        self._model = _load(self._onnx, path)
        graph = self._model.graph
        self.nodes: Sequence[Any] = graph.node
        self._weights = {item.name: item for item in graph.initializer}
        self.inputs = {i.name: i for i in graph.input if i.name not in self._weights}
        self.outputs = [item.name for item in graph.output]
        made = [(name, at) for at, node in enumerate(graph.node) for name in node.output if name]
        self.producers = dict(made)
        scopes = ((scope_of(self.nodes[at]), name) for name, at in made)
        self.last_of_scope = {scope: name for scope, name in scopes if scope}

    def node(self, name: str) -> Any:
        """The node that computes a tensor."""
        return self.nodes[self.producers[name]]

    def piece(self, names: Iterable[str], cuts: Collection[str]) -> tuple[set[int], set[str]]:
        """The nodes that compute `names` from the cuts just before them, and those cuts."""
        nodes: set[int] = set()
        reached: set[str] = set()
        queue = deque(self.producers[name] for name in names)
        while queue:
            at = queue.popleft()
            if at in nodes:
                continue
            nodes.add(at)
            read = [name for name in _reads(self.nodes[at]) if name in self.producers]
            reached.update(name for name in read if name in cuts)
            queue.extend(self.producers[name] for name in read if name not in cuts)
        return nodes, reached

    def survey(
        self, inputs: Arrays, names: Sequence[str]
    ) -> dict[str, tuple[str, tuple[int, ...]]]:
        """The type and the shape of each float tensor on these inputs; no value is kept."""
        model = self._part(names, {})
        visible = self._session(model, plain=True).get_outputs() if names else []
        kinds = {item.name: item.type for item in visible if item.type in _DTYPES}
        if not kinds:
            return {}
        del model.graph.output[:]
        for name in kinds:
            shape = f"{name}@shape"
            model.graph.node.append(self._onnx.helper.make_node("Shape", [name], [shape]))
            model.graph.output.append(self._onnx.ValueInfoProto(name=shape))
        shapes = self._run(self._session(model, plain=True), inputs)
        both = zip(kinds.items(), shapes, strict=True)
        return {name: (kind, tuple(value.tolist())) for (name, kind), value in both}

    def run(self, inputs: Arrays, names: Sequence[str], forced: Arrays) -> dict[str, Tensor]:
        """The values of `names`, computed from the inputs and from the tensors that are forced."""
        values = self._run(self._session(self._part(names, forced)), {**inputs, **forced})
        return dict(zip(names, values, strict=True))

    def _part(self, names: Sequence[str], forced: Arrays) -> Any:
        """The nodes that compute `names`, made outputs; forced tensors are inputs beside them."""
        helper = self._onnx.helper
        model = self._onnx.ModelProto(ir_version=self._model.ir_version)
        model.opset_import.extend(self._model.opset_import)
        model.functions.extend(self._model.functions)
        graph = model.graph
        graph.name = "part"
        graph.node.extend(self.nodes[at] for at in sorted(self.piece(names, forced)[0]))
        for node in graph.node:
            node.output[:] = [f"{name}{_OWN}" if name in forced else name for name in node.output]
        read = {name for node in graph.node for name in _reads(node)}
        graph.initializer.extend(item for name, item in self._weights.items() if name in read)
        graph.sparse_initializer.extend(self._model.graph.sparse_initializer)
        graph.input.extend(item for name, item in self.inputs.items() if name in read)
        for name, value in forced.items():
            kind = helper.np_dtype_to_tensor_dtype(value.dtype)
            graph.input.append(helper.make_tensor_value_info(name, kind, None))
        visible = [f"{name}{_OWN}" if name in forced else name for name in names]
        graph.output.extend(self._onnx.ValueInfoProto(name=name) for name in visible)
        return model

    def _session(self, model: Any, *, plain: bool = False) -> Any:
        settings = self._runtime.SessionOptions()
        settings.log_severity_level = _ERRORS_ONLY
        settings.intra_op_num_threads, settings.inter_op_num_threads = self._threads, 1
        settings.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(self.path.parent.resolve())
        )
        if plain:
            level = self._runtime.GraphOptimizationLevel
            settings.graph_optimization_level = level.ORT_DISABLE_ALL
        content, open_session = model.SerializeToString(), self._runtime.InferenceSession
        try:
            return open_session(content, settings, providers=["CPUExecutionProvider"])
        except Exception as error:
            version = self._runtime.__version__
            what = f"ONNX Runtime {version} cannot load {self.path.name} in parts"
            raise EngineError(what, why=_first_line(error)) from error

    def _run(self, session: Any, feeds: Arrays) -> list[Tensor]:
        given = {item.name: _as_type(feeds[item.name], item.type) for item in session.get_inputs()}
        try:
            return list(session.run(None, given))
        except Exception as error:
            what = f"{self.path.name} cannot run on these inputs"
            raise UsageError(what, why=_first_line(error)) from error


def _as_type(value: Tensor, kind: str) -> Tensor:
    """Floats in the precision wanted; what it cannot write becomes its largest number."""
    wanted = _DTYPES.get(kind)
    if wanted is None or value.dtype.kind != "f" or value.dtype == wanted:
        return value
    limit = float(np.finfo(wanted).max)
    return np.asarray(np.clip(value, -limit, limit), wanted)


def _reads(node: Any) -> Iterator[str]:
    """Every name that a node reads, those in its branches and loop bodies too."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _reads(inner)
            yield from (item.name for item in graph.output)


def _load(onnx: Any, path: Path) -> Any:
    try:
        return onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise UsageError(f"{path} cannot be read", why=str(error)) from None
    except Exception as error:
        raise BundleError(f"{path} is not an ONNX graph", why=_first_line(error)) from error


def _module(name: str, package: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        what = f"The {name} package is not installed"
        raise EngineError(what, why=str(error), next=f"pip install {package}") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:500]
