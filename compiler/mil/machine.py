"""Runs a plan: exact in float32, or with each operator's output rounded as float16 is."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from edgeward.errors import EdgewardError, EngineError

from .plan import Block, Step, gathered
from .values import Args, Cell, Value, held_as

# The largest number that float16 does not round to infinity.
HALF_LIMIT = 65520.0
Trace = Callable[[str, Any], None]


@dataclass(frozen=True, slots=True)
class Overflow:
    """An operator that made infinity or no number of finite inputs.

    `largest` is what it would have given in float32.
    """

    name: str
    operator: str
    largest: float
    elements: int


@dataclass(slots=True)
class Machine:
    """One run. `values` are shared with nothing; `constants` are kept between runs."""

    rounded: bool
    constants: MutableMapping[int, Value]
    trace: Trace | None = None
    overflows: list[Overflow] = field(default_factory=list)

    def run(self, block: Block, values: MutableMapping[int, Value]) -> list[Value]:
        """Run a block's steps and return its outputs."""
        for step in block.steps:
            if step.constant and step.outputs[0] in self.constants:
                continue
            self._step(step, values)
        return [values[at] for at in block.outputs]

    def _step(self, step: Step, values: MutableMapping[int, Value]) -> None:
        given = {name: gathered(places, values) for name, places in step.inputs.items()}
        blocks = tuple(self._runner(block, values) for block in step.blocks)
        args = Args(step.operator, given, blocks)
        found = self._computed(step, args)
        into = self.constants if step.constant else values
        for at, name, dtype, value in zip(
            step.outputs, step.names, step.dtypes, found, strict=True
        ):
            settled = self._settled(value, dtype, step, given)
            into[at] = settled
            if self.trace is not None and not step.constant:
                self.trace(name, settled)
        for at in step.frees:
            values.pop(at, None)

    def _computed(self, step: Step, args: Args) -> Sequence[Value]:
        try:
            found = step.handler(args)
        except EdgewardError:
            raise
        except (RuntimeError, ValueError, IndexError, KeyError, TypeError) as error:
            shapes = {
                name: tuple(one.shape) for name, one in args.values.items() if torch.is_tensor(one)
            }
            raise EngineError(
                f"{step.operator} cannot be computed at {step.name}",
                why=f"{type(error).__name__}: {error}"[:300] + f"; shapes {shapes}",
            ) from error
        return found if isinstance(found, tuple) else (found,)

    def _runner(
        self, block: Block, values: MutableMapping[int, Value]
    ) -> Callable[[Sequence[Value]], list[Value]]:
        def run(given: Sequence[Value]) -> list[Value]:
            inner = ChainMap[int, Value]({}, values)
            inner.update(zip(block.inputs, given, strict=True))
            return self.run(block, inner)

        return run

    def _settled(self, value: Value, dtype: str, step: Step, given: dict[str, Value]) -> Value:
        if not torch.is_tensor(value):
            return value
        wanted = held_as(dtype)
        settled = value if value.dtype == wanted else value.to(wanted)
        if dtype == "fp16" and (self.rounded or step.constant):
            settled = settled.half().float()
        if self.rounded and settled.is_floating_point() and settled.numel():
            self._watch(value, settled, step, given)
        return settled

    def _watch(self, value: Any, settled: Any, step: Step, given: dict[str, Value]) -> None:
        low, high = torch.aminmax(settled)
        # Asked of numbers: of tensors it is most of what a small operator takes.
        if math.isfinite(low.item()) and math.isfinite(high.item()):
            return
        if not all(_finite(one) for one in given.values()):
            return
        wrong = ~torch.isfinite(settled)
        self.overflows.append(
            Overflow(
                step.name,
                step.operator,
                float(value[wrong].double().abs().max()),
                int(wrong.sum()),
            )
        )


def _finite(value: Value) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_finite(one) for one in value)
    if isinstance(value, Cell):
        return _finite(value.value)
    if not torch.is_tensor(value) or not value.is_floating_point():
        return True
    return bool(torch.isfinite(value).all())


def constant(value: Any, dtype: str) -> Value:
    """Return a constant as the machine holds it: a tensor, or strings as they are."""
    if dtype == "str" or isinstance(value, str):
        return value if isinstance(value, str) else np.asarray(value).tolist()
    if isinstance(value, (list, tuple)):
        return list(value)
    return held(np.asarray(value), dtype)


def held(array: Any, dtype: str) -> Any:
    """Return an array as a tensor of its own memory, float16 held in float32."""
    # coremltools' sub-byte integers are numpy dtypes with metadata, and uint16 is none of torch's.
    plain = array.astype(np.int64) if array.dtype.kind in "iu" else array
    return torch.from_numpy(np.array(plain, order="C")).to(held_as(dtype))


def fitted(array: Any, dtype: str, rounded: bool) -> Any:
    """Return what a user gives as the program's input takes it."""
    tensor = held(np.asarray(array), dtype)
    return tensor.half().float() if rounded and dtype == "fp16" else tensor
