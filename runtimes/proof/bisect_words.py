"""What a bisection found: its data, the names it gives to layers, its rows and its sentence."""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from typing import Any

SCOPES = "pkg.torch.onnx.name_scopes"


@dataclass(frozen=True, slots=True)
class Departure:
    """One tensor that both graphs have, and how far the artifact's is from the float graph's.

    The errors are the difference's root mean square over the reference's: `relative_error` where
    the artifact runs from its inputs, `own_error` where it is fed the float graph's values just
    before this tensor. Infinite: not finite in the artifact alone, or another shape.
    """

    tensor: str
    layer: str
    op_type: str
    relative_error: float
    shape: tuple[int, ...]
    own_error: float


@dataclass(frozen=True, slots=True)
class Bisection:
    """The first layer that departs, None where none stands out; the largest own errors, falling.

    `compared` counts the tensors compared, `end` is the largest relative error of an output.
    """

    first: Departure | None
    worst: tuple[Departure, ...]
    compared: int
    end: float


def scope_of(node: Any) -> tuple[str, ...]:
    """Return the modules around an ONNX node, then torch's name of the operation; () if untold.

    Source: the `pkg.torch.onnx.name_scopes` metadata that `torch.onnx.export` writes.
    """
    for item in node.metadata_props:
        if item.key == SCOPES:
            try:
                return tuple(str(part) for part in ast.literal_eval(item.value))
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                return ()
    return ()


def layer_of(node: Any) -> str:
    """Return the path of a node's module, as `encoder.layer.3.output.dense`; "" if untold.

    It comes from torch's metadata, else from a name as `/encoder/layer.3/output/dense/MatMul`.
    """
    named = [part for part in scope_of(node)[:-1] if part and not part.startswith("_empty_nn")]
    if named:
        return named[-1]
    name = str(node.name)
    return ".".join(name.split("/")[1:-1]) if name.startswith("/") else ""


def departure_rows(found: Bisection) -> list[dict[str, object]]:
    """Return one row a departure: the first, then the others from the worst on."""
    first = [found.first] if found.first else []
    others = [one for one in found.worst if one != found.first]
    return [
        {
            "layer": one.layer,
            "op": one.op_type,
            "tensor": one.tensor,
            "relative_error": one.relative_error,
            "own_error": one.own_error,
            "first": one is found.first,
        }
        for one in [*first, *others]
    ]


def departure_words(found: Bisection) -> str:
    """Return what was found in one sentence."""
    first = found.first
    if first:
        return (
            f"The first layer that departs is {first.layer} ({first.op_type}, tensor "
            f"{first.tensor}): {_how(first)}"
        )
    if found.end == 0:
        return f"No layer departs: all {found.compared} tensors compared are equal"
    worst = found.worst[0]
    return (
        f"No layer departs by itself: the output's error of {_share(found.end)} gathers over "
        f"{found.compared} tensors, of which {worst.layer} ({worst.op_type}) adds most, "
        f"{_share(worst.own_error)}"
    )


def _how(one: Departure) -> str:
    if math.isinf(max(one.relative_error, one.own_error)):
        return "it is not finite, or of another shape, in the artifact alone"
    return (
        f"it adds a relative error of {_share(one.own_error)} itself, "
        f"{_share(one.relative_error)} with what comes before it"
    )


def _share(error: float) -> str:
    return f"{error:.2%}" if error >= 1e-4 else f"{error:.1e}"
