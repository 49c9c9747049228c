"""A wrapped model as one plain graph: what does not depend on its inputs is computed here.

Tables of positions, buckets of distances, sines, resized position embeddings: each is worked out in
torch's own precision once, instead of by an engine in float16 at every call, or by operators that
it lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

from .rewrites import Rewritten

_ATEN = torch.ops.aten
# A constant of another shape is no smaller: these stay, so that weights are kept once.
_VIEWS = frozenset(
    {
        _ATEN.expand.default,
        _ATEN.permute.default,
        _ATEN.slice.Tensor,
        _ATEN.squeeze.dim,
        _ATEN.t.default,
        _ATEN.transpose.int,
        _ATEN.unsqueeze.default,
        _ATEN.view.default,
    }
)
_DROPPED = "dropout_p"
_NOTHING = frozenset({_ATEN.alias.default, _ATEN.lift_fresh_copy.default, _ATEN.detach.default})


def simplified(module: nn.Module, inputs: Sequence[torch.Tensor]) -> fx.GraphModule:
    """Trace a module and fold its constants; it shares the module's weights.

    What torch.export raises is left as it is: the caller says which model it was.
    """
    with torch.no_grad(), Rewritten():
        program = torch.export.export(module.eval(), tuple(inputs), strict=False)
    traced = program.run_decompositions({}).module(check_guards=False)
    _drop_what_does_nothing(traced.graph)
    _fold(traced)
    _reshape(traced.graph)
    traced.graph.eliminate_dead_code()
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def _drop_what_does_nothing(graph: fx.Graph) -> None:
    for node in list(graph.nodes):
        if node.target in _NOTHING:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
        elif node.target is _ATEN._assert_tensor_metadata.default:
            graph.erase_node(node)


def _fold(traced: fx.GraphModule) -> None:
    """Put a buffer where values that only constants lead to meet what inputs lead to."""
    known: dict[fx.Node, Any] = {}
    plain: set[fx.Node] = set()
    with torch.no_grad():
        for node in traced.graph.nodes:
            if node.op == "get_attr":
                known[node] = _attribute(traced, str(node.target))
                plain.add(node)
            elif _is_constant(node, known):
                known[node] = _value(node, known)
                if node.target in _VIEWS and node.args[0] in plain:
                    plain.add(node)
    for number, node in enumerate([n for n in known if n not in plain]):
        if all(user in known for user in node.users) or not isinstance(known[node], torch.Tensor):
            continue
        name = f"constant_{number}"
        # Converters write a tensor's memory as it lies, whatever its strides say.
        traced.register_buffer(name, known[node].clone().contiguous(), persistent=False)
        with traced.graph.inserting_before(node):
            node.replace_all_uses_with(traced.graph.get_attr(name))
    # torch keeps what may be random, whether it is used or not.
    for node in reversed(known):
        if node.op == "call_function" and not node.users:
            traced.graph.erase_node(node)


def _reshape(graph: fx.Graph) -> None:
    """A view of what a constant led to was traced for that constant's strides."""
    for node in graph.nodes:
        if node.target is _ATEN.view.default:
            node.target = _ATEN.reshape.default


def _is_constant(node: fx.Node, known: dict[fx.Node, Any]) -> bool:
    if node.op != "call_function" or _is_random(node):
        return False
    return all(argument in known for argument in node.all_input_nodes)


def _is_random(node: fx.Node) -> bool:
    """Whether it gives other values at every call: attention may, and does not where it drops none.

    DETR's decoder attends over its learnt queries alone before it looks at the picture.
    """
    if torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
        return False
    arguments = node.target._schema.arguments
    place = next((n for n, one in enumerate(arguments) if one.name == _DROPPED), None)
    if place is None:
        return True
    given = node.args[place] if place < len(node.args) else node.kwargs.get(_DROPPED, 0.0)
    return bool(given != 0.0)


def _value(node: fx.Node, known: dict[fx.Node, Any]) -> Any:
    args = fx.map_arg(node.args, known.__getitem__)
    kwargs = fx.map_arg(node.kwargs, known.__getitem__)
    return node.target(*args, **kwargs)


def _attribute(module: nn.Module, path: str) -> torch.Tensor:
    found: Any = module
    for name in path.split("."):
        found = getattr(found, name)
    return found
