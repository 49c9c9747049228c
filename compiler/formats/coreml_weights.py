"""Finds a program's weights and writes them again as Core ML's compressed constants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .coreml_rounding import Grid, Rounded, Table

PRODUCT, CONVOLUTION, LOOKUP, TIED = "product", "convolution", "look-up", "tied"
_LEAST = 2048


@dataclass(frozen=True, slots=True)
class Weight:
    """A constant that is multiplied with, or looked up in; nothing else is ever rounded.

    A constant that is added (folded positions and token types) has no axis of outputs: rounding it
    along a guessed one is what ruins a model. `matrix` is (outputs, everything else), float32;
    `turned` says that the constant lies the other way round.
    """

    op: Any
    kind: str
    matrix: NDArray[np.float32]
    turned: bool

    @property
    def name(self) -> str:
        """The constant's name."""
        return str(self.op.name)


def weights_of(program: Any) -> Iterator[Weight]:
    """Give the weights of every function, each once, large enough to be worth rounding."""
    for function in program.functions.values():
        for op in list(function.operations):
            if op.op_type != "const":
                continue
            found = _weight(op)
            if found is not None:
                yield found


def _weight(op: Any) -> Weight | None:
    value = op.outputs[0].val
    if not isinstance(value, np.ndarray) or value.dtype not in (np.float16, np.float32):
        return None
    if value.size < _LEAST or value.ndim < 2:
        return None
    uses = {_use(child, op.outputs[0]) for child in op.outputs[0].child_ops}
    kinds = {kind for kind, _ in uses}
    turns = {turned for _, turned in uses}
    if "" in kinds or len(turns) != 1 or not kinds:
        return None
    kind = TIED if len(kinds) > 1 else kinds.pop()
    turned = turns.pop()
    if turned and value.ndim != 2:
        return None
    rows = value.T if turned else value.reshape(len(value), -1)
    return Weight(op, kind, np.ascontiguousarray(rows, np.float32), turned)


def _use(op: Any, var: Any) -> tuple[str, bool]:
    """How an operator uses a constant, and whether its outputs are the constant's last axis."""
    if op.op_type == "linear" and op.weight is var:
        return PRODUCT, False
    if op.op_type == "conv" and op.weight is var:
        return CONVOLUTION, False
    if op.op_type == "gather" and op.x is var and _first(op):
        return LOOKUP, False
    if op.op_type == "matmul" and op.y is var:
        return PRODUCT, not bool(op.transpose_y.val)
    return "", False


def _first(op: Any) -> bool:
    return op.axis is not None and op.axis.val is not None and int(op.axis.val) == 0


def rewrite(program: Any, choose: Callable[[Weight], Rounded | None], ios: int) -> int:
    """Put compressed constants in the place of weights; how many were."""
    count = 0
    for weight in list(weights_of(program)):
        rounded = choose(weight)
        if rounded is not None:
            _replace(weight, rounded, ios)
            count += 1
    return count


def _replace(weight: Weight, rounded: Rounded, ios: int) -> None:
    from coremltools.converters.mil import Builder as mb  # noqa: N813

    op, block = weight.op, weight.op.enclosing_block
    with block:
        write = _written if ios >= 18 else _written_before
        new = write(mb, weight, rounded, {"before_op": op, "name": f"{op.name}_rounded"})
        block.replace_uses_of_var_after_op(
            anchor_op=new.op,
            old_var=op.outputs[0],
            new_var=new,
            no_check_var_types=True,
            force_replace=True,
        )
        block.remove_ops([op])


def _written(mb: Any, weight: Weight, rounded: Rounded, how: dict[str, Any]) -> Any:
    """The operators of iOS 18: any block of any axis has its own scale or table."""
    shape = weight.op.outputs[0].val.shape
    kind = weight.op.outputs[0].val.dtype
    if isinstance(rounded, Grid):
        whole, blocks = _sub_byte(f"int{rounded.bits}"), _per_block(rounded.scale, shape)
        if rounded.offset is not None:
            how["offset"] = _laid(rounded.offset, weight, blocks).astype(whole)
        return mb.constexpr_blockwise_shift_scale(
            data=_laid(rounded.data, weight, shape).astype(whole),
            scale=_laid(rounded.scale, weight, blocks).astype(kind),
            **how,
        )
    tables = len(rounded.values)
    order = (1, tables) if weight.turned else (tables, *[1] * (len(shape) - 1))
    return mb.constexpr_lut_to_dense(
        indices=_laid(rounded.indices, weight, shape).astype(_sub_byte(f"uint{rounded.bits}")),
        lut=rounded.values.reshape(*order, 2**rounded.bits, 1).astype(kind),
        **how,
    )


def _written_before(mb: Any, weight: Weight, rounded: Rounded, how: dict[str, Any]) -> Any:
    """The operators of iOS 16: a scale for each output, or one table for all."""
    from coremltools.optimize._utils import pack_elements_into_bits

    shape = weight.op.outputs[0].val.shape
    kind = weight.op.outputs[0].val.dtype
    if isinstance(rounded, Table):
        packed = pack_elements_into_bits(
            _laid(rounded.indices, weight, shape).reshape(-1), rounded.bits
        )
        return mb.constexpr_lut_to_dense(
            indices=packed,
            lut=rounded.values[0].astype(kind),
            shape=np.array(shape, np.uint32),
            **how,
        )
    return mb.constexpr_affine_dequantize(
        quantized_data=_laid(rounded.data, weight, shape),
        zero_point=np.int8(0),
        scale=rounded.scale[:, 0].astype(kind),
        axis=np.int32(len(shape) - 1 if weight.turned else 0),
        **how,
    )


def _laid(matrix: NDArray[Any], weight: Weight, shape: tuple[int, ...]) -> NDArray[Any]:
    """A matrix by outputs as the constant lies."""
    return np.ascontiguousarray(matrix.T if weight.turned else matrix.reshape(shape))


def _per_block(scale: NDArray[Any], shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*scale.shape, *[1] * (len(shape) - 2))


def _sub_byte(name: str) -> Any:
    from coremltools.converters.mil.mil.types.type_mapping import string_to_nptype

    return string_to_nptype(name)
