"""A program's function as a line of steps: numbered values, each freed after its last use."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from .registry import OPERATORS
from .values import Args, Value

Handler = Callable[[Args], Any]


@dataclass(frozen=True, slots=True)
class Step:
    """One operator. Inputs and outputs are numbers of values; `frees` are needed no more after it.

    `constant` is set where nothing that is given to the program takes part: it is computed once.
    """

    name: str
    operator: str
    handler: Handler
    inputs: Mapping[str, int | tuple[int, ...]]
    outputs: tuple[int, ...]
    names: tuple[str, ...]
    dtypes: tuple[str, ...]
    blocks: tuple[Block, ...] = ()
    constant: bool = False
    frees: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """A function's body, or a nested one that also sees the values around it."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A function. `constants` are arrays or strings with their dtype, by their value's number."""

    block: Block
    inputs: Mapping[str, int]
    states: Mapping[str, int]
    outputs: tuple[str, ...]
    constants: dict[int, tuple[Any, str]]
    dtypes: Mapping[str, str]
    shapes: Mapping[str, tuple[int | str, ...]]


@dataclass(slots=True)
class _Numbers:
    numbers: dict[int, int] = field(default_factory=dict)
    constants: dict[int, tuple[Any, str]] = field(default_factory=dict)
    fixed: set[int] = field(default_factory=set)

    def of(self, var: Any) -> int:
        return self.numbers.setdefault(id(var), len(self.numbers))


def make_plan(function: Any) -> Plan:
    """Order a coremltools function for the machine."""
    numbers = _Numbers()
    given = list(function.inputs.items())
    states = {name for name, var in given if _is_state(var)}
    places = {name: numbers.of(var) for name, var in given}
    block = _block(function, numbers, tuple(places.values()), kept=set())
    found = {var.name: var for var in function.outputs}
    ends = {**dict(given), **found}
    return Plan(
        block=block,
        inputs={name: at for name, at in places.items() if name not in states},
        states={name: at for name, at in places.items() if name in states},
        outputs=tuple(var.name for var in function.outputs),
        constants=numbers.constants,
        dtypes={name: dtype_of(var) for name, var in ends.items()},
        shapes={name: _shape(var) for name, var in ends.items()},
    )


def _block(block: Any, numbers: _Numbers, inputs: tuple[int, ...], kept: set[int]) -> Block:
    steps = [step for op in block.operations if (step := _step(op, numbers)) is not None]
    outputs = tuple(numbers.of(var) for var in block.outputs)
    return Block(inputs, outputs, _freed(steps, {*outputs, *kept}))


def _step(op: Any, numbers: _Numbers) -> Step | None:
    if op.op_type == "const":
        at = numbers.of(op.outputs[0])
        numbers.constants[at] = (op.outputs[0].val, dtype_of(op.outputs[0]))
        numbers.fixed.add(at)
        return None
    inputs = {
        name: _places(var, numbers) for name, var in op.inputs.items() if _is_value(name, var)
    }
    blocks = tuple(
        _block(one, numbers, tuple(numbers.of(var) for var in one.inputs), kept=set())
        for one in op.blocks
    )
    outputs = tuple(numbers.of(var) for var in op.outputs)
    used = {at for places in inputs.values() for at in _flat(places)}
    constant = not blocks and op.op_type.startswith("constexpr_") and used <= numbers.fixed
    if constant:
        numbers.fixed.update(outputs)
    return Step(
        name=op.name,
        operator=op.op_type,
        handler=handler_of(op.op_type),
        inputs=inputs,
        outputs=outputs,
        names=tuple(var.name for var in op.outputs),
        dtypes=tuple(dtype_of(var) for var in op.outputs),
        blocks=blocks,
        constant=constant,
    )


def _freed(steps: Sequence[Step], kept: set[int]) -> tuple[Step, ...]:
    """Free what was made in this block, and only that: a nested block may run again."""
    made = {at for step in steps if not step.constant for at in step.outputs}
    seen = set(kept)
    done = []
    for step in reversed(steps):
        used = {*_used(step), *step.outputs}
        last = (used & made) - seen
        seen |= used
        done.append(replace(step, frees=tuple(sorted(last))))
    return tuple(reversed(done))


def _used(step: Step) -> set[int]:
    found = {at for places in step.inputs.values() for at in _flat(places)}
    for block in step.blocks:
        found |= set(block.outputs)
        for nested in block.steps:
            found |= _used(nested)
    return found


def handler_of(operator: str) -> Handler:
    """Import the function that computes an operator."""
    module, _, name = OPERATORS[operator].partition(":")
    return cast(Handler, getattr(importlib.import_module(module), name))


def dtype_of(var: Any) -> str:
    """Return the name of a variable's MIL dtype; a state's is that of what it holds."""
    from coremltools.converters.mil.mil import types

    kind = var._sym_type
    if types.is_state(kind):
        kind = kind.wrapped_type()
    if types.is_list(kind):
        return "list"
    if types.is_dict(kind):
        return "dict"
    primitive = kind.get_primitive() if types.is_tensor(kind) else kind
    return str(types.builtin_to_string(primitive))


def _shape(var: Any) -> tuple[int | str, ...]:
    from coremltools.converters.mil.mil import types

    kind = var._sym_type
    if types.is_state(kind):
        kind = kind.wrapped_type()
    if not types.is_tensor(kind):
        return ()
    return tuple(_size(one) for one in kind.get_shape())


def _size(size: Any) -> int | str:
    try:
        return int(size)
    except TypeError:
        return str(size)


def _is_state(var: Any) -> bool:
    from coremltools.converters.mil.mil import types

    return bool(types.is_state(var._sym_type))


def _is_value(name: str, var: Any) -> bool:
    # Control flow keeps Python functions and blocks among its inputs.
    return var is not None and not name.startswith("_")


def _places(var: Any, numbers: _Numbers) -> int | tuple[int, ...]:
    if isinstance(var, (list, tuple)):
        return tuple(numbers.of(one) for one in var)
    return numbers.of(var)


def _flat(places: int | tuple[int, ...]) -> tuple[int, ...]:
    return places if isinstance(places, tuple) else (places,)


def gathered(places: int | tuple[int, ...], values: Mapping[int, Value]) -> Value:
    """Return the value of a place, or the list of those of several."""
    if isinstance(places, tuple):
        return [values[at] for at in places]
    return values[places]
