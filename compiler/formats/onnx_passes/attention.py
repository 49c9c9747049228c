"""Attention as exporters write it, said shorter: keys turned once, masks no larger than needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .facts import Facts
from .graph import MICROSOFT, Graph, attributes, make
from .linear import fold_scale

_HEADS_FIRST = [0, 2, 1, 3]
_TURNED = [0, 1, 3, 2]


@dataclass(frozen=True, slots=True)
class Core:
    """softmax(q k^T scale + mask) v as nodes; `zeroed` puts zeros where a query sees no key."""

    scores: Any
    added: Any | None
    softmax: Any
    mixed: Any
    zeroed: Any | None
    query: str
    key: str
    scale: float

    @property
    def out(self) -> str:
        """What comes out of it."""
        last = self.mixed if self.zeroed is None else self.zeroed
        return str(last.output[0])


@dataclass(slots=True)
class Attention:
    """Shortens every attention of a graph that it recognises; the others stay as they are."""

    graph: Graph
    facts: Facts
    fuse: bool = False
    found: int = 0
    fused: int = 0
    _before: dict[int, list[Any]] = field(default_factory=dict)
    _gone: set[int] = field(default_factory=set)
    _masks: dict[str, str] = field(default_factory=dict)
    _readers: dict[str, list[Any]] = field(default_factory=dict)

    def run(self) -> None:
        """Rewrite them all."""
        for node in self.graph.proto.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        for node in list(self.graph.proto.node):
            core = self._core(node) if node.op_type == "Softmax" else None
            if core is not None:
                self.found += 1
                self._shorten(core)
        nodes: list[Any] = []
        for node in self.graph.proto.node:
            nodes += self._before.get(id(node), [])
            if id(node) not in self._gone:
                nodes.append(node)
        self.graph.replace_nodes(nodes)

    def _shorten(self, core: Core) -> None:
        mask = self._mask(core)
        unmasked = core.added is None or mask == ""
        if self.fuse and unmasked and self._fuse(core):
            return
        if unmasked:
            core.softmax.input[0] = core.scores.output[0]
        elif core.added is not None and mask:
            core.added.input[0], core.added.input[1] = core.scores.output[0], mask
        if core.zeroed is not None and mask is not None:
            self._gone.add(id(core.zeroed))
            core.mixed.output[0] = core.zeroed.output[0]
        core.scores.input[1] = self._turned(core)
        core.scores.input[0] = self._scaled(core)

    def _core(self, softmax: Any) -> Core | None:
        if attributes(softmax).get("axis", -1) not in (-1, 3):
            return None
        added: Any | None = self._made(softmax.input[0], "Add")
        sides = list(added.input) if added is not None else [softmax.input[0]]
        scores = next((n for n in (self._made(side, "MatMul") for side in sides) if n), None)
        mixed = self._reader(softmax.output[0], "MatMul")
        if scores is None or mixed is None or mixed.input[0] != softmax.output[0]:
            return None
        if added is not None and next(iter(added.input)) != scores.output[0]:
            added.input[0], added.input[1] = added.input[1], added.input[0]
        query, first = self._unscaled(scores.input[0])
        turned, second = self._unscaled(scores.input[1])
        key = self._key(turned)
        if key is None or len(self.facts.shapes.get(query, ())) != 4:
            return None
        if len(self._readers.get(scores.output[0], [])) != 1:
            return None
        zeroed = self._reader(mixed.output[0], "Where")
        if zeroed is not None and not self.facts.is_all(zeroed.input[1], 0.0):
            zeroed = None
        return Core(scores, added, softmax, mixed, zeroed, query, key, first * second)

    def _unscaled(self, name: str) -> tuple[str, float]:
        node = self._made(name, "Mul")
        if node is None:
            return name, 1.0
        for value, factor in (tuple(node.input), tuple(node.input)[::-1]):
            if factor in self.facts.value and self.facts.shapes.get(factor) in ((), (1,)):
                return value, self.facts.value[factor]
        return name, 1.0

    def _key(self, name: str) -> str | None:
        """The keys [B, H, S, D] that these are, turned; None where they are not."""
        node = self.graph.producers.get(name)
        if node is None:
            return None
        if node.op_type == "Transpose" and list(attributes(node)["perm"]) == _TURNED:
            return str(node.input[0])
        turned = self._made(node.input[0], "Transpose") if node.op_type == "Reshape" else None
        if turned is None or list(attributes(turned)["perm"]) != [0, 2, 1]:
            return None
        flat = self._made(turned.input[0], "Reshape")
        if flat is None or len(self.facts.shapes.get(flat.input[0], ())) != 4:
            return None
        one, two = self._parts(flat.input[1]), self._parts(node.input[1])
        swapped = len(one) == 3 and len(two) > 2 and one[1:] == two[:-3:-1]
        return str(flat.input[0]) if swapped and self.facts.is_all(one[0], -1) else None

    def _parts(self, name: str) -> list[str]:
        node = self._made(name, "Concat")
        return [] if node is None else list(node.input)

    def _mask(self, core: Core) -> str | None:
        """The mask's shorter form, '' for none at all, None where it has to stay."""
        if core.added is None:
            return ""
        name = core.added.input[1]
        if self.facts.is_all(name, 0.0):
            return ""
        product = self._made(name, "Mul")
        cast = self._made(product.input[0], "Cast") if product is not None else None
        negated = self._made(cast.input[0], "Not") if cast is not None else None
        if negated is None:
            return None
        visible = self._terms(negated.input[0])
        shape = self.facts.shapes.get(visible[0], ()) if len(visible) == 1 else ()
        # A mask of keys alone: a row that sees nothing is a sample of padding alone.
        if len(shape) != 4 or shape[2] != 1:
            return None
        if visible[0] not in self._masks:
            self._masks[visible[0]] = self._masked(visible[0], product, cast, core.added)
        return self._masks[visible[0]]

    def _terms(self, name: str) -> list[str]:
        """What has to hold for a key to be seen, without what always does."""
        if self.facts.is_all(name, 1.0):
            return []
        node = self._made(name, "And")
        return [name] if node is None else [t for side in node.input for t in self._terms(side)]

    def _masked(self, visible: str, product: Any, cast: Any, before: Any) -> str:
        nodes: list[Any] = []
        visible = self._spread(visible, nodes)
        names = [self.graph.unique(f"{visible}_{part}") for part in ("hidden", "number", "mask")]
        nodes += [
            make("Not", [visible], names[:1]),
            make("Cast", names[:1], names[1:2], given={"to": attributes(cast)["to"]}),
            make("Mul", [names[1], product.input[1]], names[2:]),
        ]
        self._insert(before, nodes)
        return names[2]

    def _spread(self, name: str, nodes: list[Any]) -> str:
        """A mask [B, S] that was gathered into [B, 1, 1, S] by its own indices is unsqueezed."""
        node = self._made(name, "GatherND")
        if node is None or attributes(node).get("batch_dims", 0):
            return name
        mask, parts = node.input[0], self._parts(node.input[1])
        sizes = [self._counted(part) for part in parts]
        places = [i for i, size in enumerate(self.facts.shapes.get(name, ())) if size != 1]
        data = self._made(mask, "Cast")
        shape = self.facts.shapes.get(mask if data is None else data.input[0], ())
        if len(shape) != 2 or sizes != list(shape) or not set(places) <= {0, 3}:
            return name
        axes = self.graph.add(np.array([1, 2], np.int64), "mask_axes")
        wide = self.graph.unique(f"{mask}_wide")
        nodes.append(make("Unsqueeze", [mask, axes], [wide]))
        return wide

    def _counted(self, name: str) -> int | str | None:
        """The dimension of an input all of whose indices these are, in order."""
        node = self.graph.producers.get(name)
        while node is not None and node.op_type in ("Unsqueeze", "Expand"):
            node = self.graph.producers.get(node.input[0])
        if node is None or node.op_type != "Range" or not self.facts.is_all(node.input[0], 0.0):
            return None
        limit = self._made(node.input[1], "Squeeze")
        size = self._made(limit.input[0], "Shape") if limit is not None else None
        if size is None or not self.facts.is_all(node.input[2], 1.0):
            return None
        shape, start = self.facts.shapes.get(size.input[0], ()), attributes(size).get("start", 0)
        return shape[start] if start < len(shape) else None

    def _turned(self, core: Core) -> str:
        """Keys as [B, H, D, S], straight from the projection where they come from one."""
        source, perm = core.key, _TURNED
        before = self._made(core.key, "Transpose")
        if before is not None and list(attributes(before)["perm"]) == _HEADS_FIRST:
            source, perm = before.input[0], [0, 2, 3, 1]
        name = self.graph.unique(f"{core.key}_turned")
        self._insert(core.scores, [make("Transpose", [source], [name], given={"perm": perm})])
        return name

    def _scaled(self, core: Core) -> str:
        """Queries times the scale, which their projection takes where it can."""
        if core.scale == 1.0 or fold_scale(self.graph, self._readers, core.query, core.scale):
            return core.query
        name = self.graph.unique(f"{core.query}_scaled")
        factor = self.graph.add(np.array(core.scale, np.float32), "scale")
        self._insert(core.scores, [make("Mul", [core.query, factor], [name])])
        return name

    def _fuse(self, core: Core) -> bool:
        """One MultiHeadAttention, which ONNX Runtime computes in tiles where nothing is masked."""
        sources = [self._projected(n) for n in (core.query, core.key, core.mixed.input[1])]
        heads = self.facts.shapes[core.query][1]
        last = self._reader(core.out, "Transpose", "Reshape")
        if last is not None and last.op_type == "Reshape":
            if not self.facts.same_shape(last.input[0], last.output[0]):
                return False
            last = self._reader(last.output[0], "Transpose")
        if last is None or list(attributes(last)["perm"]) != _HEADS_FIRST:
            return False
        joined = self._reader(last.output[0], "Reshape")
        shapes = [self.facts.shapes.get(s, ()) if s else () for s in sources]
        if joined is None or any(len(s) != 3 for s in shapes) or not isinstance(heads, int):
            return False
        wanted = (*shapes[0][:2], shapes[2][2])
        if self.facts.shapes.get(joined.output[0]) != wanted or "" in wanted:
            return False
        given = {"num_heads": heads, "scale": core.scale}
        node = make("MultiHeadAttention", [s for s in sources if s], list(joined.output),
                    domain=MICROSOFT, given=given)  # fmt: skip
        self._insert(joined, [node])
        self._gone.add(id(joined))
        # The chain up to here is left for nobody to read.
        self.fused += 1
        return True

    def _projected(self, name: str) -> str | None:
        """The [B, S, H * D] that [B, H, S, D] was cut from."""
        turned = self._made(name, "Transpose")
        if turned is None or list(attributes(turned)["perm"]) != _HEADS_FIRST:
            return None
        cut = self._made(turned.input[0], "Reshape")
        return None if cut is None else str(cut.input[0])

    def _made(self, name: str, op: str) -> Any | None:
        node = self.graph.producers.get(name)
        return node if node is not None and node.op_type == op and not node.domain else None

    def _reader(self, name: str, *ops: str) -> Any | None:
        """Its one reader, where that is such an operator."""
        found = self._readers.get(name, [])
        outputs = {o.name for o in self.graph.proto.output} | self.graph.captured
        if len(found) != 1 or name in outputs or found[0].op_type not in ops:
            return None
        return found[0]

    def _insert(self, node: Any, nodes: list[Any]) -> None:
        self._before.setdefault(id(node), []).extend(nodes)
