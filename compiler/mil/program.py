"""A saved Core ML program that runs without Core ML.

Weights, types and operators are those of the file, read again: what was meant to be written plays
no part. It shows that a program computes what the model computes, exactly and in float16; it is
not bit for bit what the Neural Engine computes, and says nothing of where an operator runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import EngineError, UsageError

from .package import Port, described, ports, read_package

if TYPE_CHECKING:
    from .machine import Overflow
    from .plan import Plan
    from .values import Cell

Array = NDArray[Any]
Trace = Callable[[str, Any], None]


@dataclass(frozen=True, slots=True)
class State:
    """What a function's states hold; a run reads and writes it."""

    cells: Mapping[str, Cell]

    def arrays(self) -> dict[str, Array]:
        """Return a copy of what each state holds, float16 in float32."""
        return {name: np.array(cell.value.numpy()) for name, cell in self.cells.items()}


def load_program(path: Path) -> Program:
    """Load a saved `.mlpackage`.

    Raises EngineError for a package that is damaged or that is no program, and for an operator that
    the evaluator lacks.
    """
    spec, program = read_package(path)
    from .plan import make_plan

    functions = {
        name: _Function(make_plan(function), described(spec, name))
        for name, function in program.functions.items()
    }
    return Program(path, functions, spec.description.defaultFunctionName or "main")


@dataclass(slots=True)
class _Function:
    plan: Plan
    description: Any
    constants: dict[int, Any] = field(default_factory=dict)

    def ports(self, names: Sequence[str], features: Sequence[Any]) -> dict[str, Port]:
        """Return the ports with the program's dtypes and the description's flexible shapes."""
        known = ports(features)
        found = {}
        for name in names:
            said = known.get(name)
            shape, dtype = self.plan.shapes[name], self.plan.dtypes[name]
            flexible = (said.shapes, said.ranges) if said is not None else ((), ())
            found[name] = Port(name, shape, dtype, *flexible)
        return found

    def filled(self) -> dict[int, Any]:
        """Return the constants as tensors, made the first time."""
        from .machine import constant

        # Each array is let go when its tensor is there: together they are twice the weights.
        while self.plan.constants:
            at, (value, dtype) = self.plan.constants.popitem()
            self.constants[at] = constant(value, dtype)
        return self.constants


class Program:
    """A loaded program; `overflows` are those of its last run."""

    def __init__(self, path: Path, functions: Mapping[str, _Function], default: str) -> None:
        self.path = path
        self._functions = functions
        self.default = default if default in functions else next(iter(functions))
        self.overflows: tuple[Overflow, ...] = ()

    @property
    def functions(self) -> tuple[str, ...]:
        """The names of its functions."""
        return tuple(self._functions)

    @property
    def inputs(self) -> dict[str, Port]:
        """The default function's inputs, in their order."""
        return self.inputs_of(self.default)

    @property
    def outputs(self) -> dict[str, Port]:
        """The default function's outputs, in their order."""
        return self.outputs_of(self.default)

    @property
    def states(self) -> dict[str, Port]:
        """The default function's states, in their order."""
        return self.states_of(self.default)

    def inputs_of(self, function: str) -> dict[str, Port]:
        """Return a function's inputs."""
        one = self._function(function)
        return one.ports(tuple(one.plan.inputs), one.description.input)

    def outputs_of(self, function: str) -> dict[str, Port]:
        """Return a function's outputs."""
        one = self._function(function)
        return one.ports(one.plan.outputs, one.description.output)

    def states_of(self, function: str) -> dict[str, Port]:
        """Return a function's states."""
        one = self._function(function)
        return one.ports(tuple(one.plan.states), one.description.state)

    def operators(self, function: str = "") -> dict[str, int]:
        """Return how often each operator occurs in a function, nested blocks included."""
        counts: dict[str, int] = {}
        _count(self._function(function or self.default).plan.block, counts)
        return dict(sorted(counts.items()))

    def state(self, function: str = "") -> State:
        """Return fresh states, all zeros, as Core ML's `make_state` does."""
        import torch

        from .values import Cell, held_as

        plan = self._function(function or self.default).plan
        return State(
            {
                name: Cell(
                    torch.zeros([int(one) for one in plan.shapes[name]]).to(
                        held_as(plan.dtypes[name])
                    )
                )
                for name in plan.states
            }
        )

    def run(
        self,
        inputs: Mapping[str, Array],
        *,
        rounded: bool = True,
        state: State | None = None,
        function: str = "",
        trace: Trace | None = None,
    ) -> dict[str, Array]:
        """Run once.

        With `rounded` each operator's output is rounded to float16 where the program says so, sums
        run in float32, what is too large becomes infinity and is listed in `overflows`; outputs
        have the program's dtypes. Without, float16 is computed and given in float32. `trace` is
        called with the name and the tensor of each operator's output.

        Raises UsageError for inputs that the function does not take, EngineError for an operator
        that cannot be computed on them.
        """
        import torch

        from .machine import Machine, fitted
        from .values import numpy_dtype

        name = function or self.default
        one = self._function(name)
        self._check(one.plan, name, inputs, state)
        fresh = state if state is not None else self.state(name)
        constants = one.filled()
        values = _Values(constants)
        for key, at in one.plan.inputs.items():
            values[at] = fitted(inputs[key], one.plan.dtypes[key], rounded)
        for key, at in one.plan.states.items():
            values[at] = fresh.cells[key]
        machine = Machine(rounded, constants, trace)
        with torch.inference_mode():
            found = machine.run(one.plan.block, values)
        self.overflows = tuple(machine.overflows)
        results = {}
        for key, value in zip(one.plan.outputs, found, strict=True):
            dtype = one.plan.dtypes[key]
            kept = "fp32" if dtype == "fp16" and not rounded else dtype
            results[key] = _array(value, numpy_dtype(kept) if torch.is_tensor(value) else None)
        return results

    def _function(self, name: str) -> _Function:
        found = self._functions.get(name)
        if found is None:
            raise UsageError(
                f"{self.path.name} has no function {name}",
                why=f"it has {', '.join(self.functions)}",
            )
        return found

    def _check(
        self, plan: Plan, name: str, inputs: Mapping[str, Array], state: State | None
    ) -> None:
        wrong = sorted(set(plan.inputs) ^ set(inputs))
        if wrong:
            raise UsageError(
                f"{name} of {self.path.name} takes {', '.join(plan.inputs)}",
                why=f"left out or not among them: {', '.join(wrong)}",
            )
        if state is not None and set(state.cells) != set(plan.states):
            raise UsageError(f"The state is not one of {name} of {self.path.name}")
        for key, port in self.inputs_of(name).items():
            _fits(port, np.shape(inputs[key]))


class _Values(dict[int, Any]):
    """The values of one run over the constants of all."""

    def __init__(self, constants: Mapping[int, Any]) -> None:
        super().__init__()
        self._constants = constants

    def __missing__(self, at: int) -> Any:
        return self._constants[at]


def _fits(port: Port, shape: tuple[int, ...]) -> None:
    fits = len(shape) == len(port.shape) and all(
        isinstance(said, str) or said == size for said, size in zip(port.shape, shape, strict=True)
    )
    if fits and port.shapes:
        fits = shape in port.shapes
    if fits and port.ranges:
        fits = all(
            low <= size and (high < 0 or size <= high)
            for (low, high), size in zip(port.ranges, shape, strict=True)
        )
    if not fits:
        said = port.shapes or port.ranges or port.shape
        raise UsageError(f"{port.name} cannot have the shape {shape}", why=f"it takes {said}")


def _array(value: Any, dtype: Any) -> Array:
    if dtype is None:
        return np.asarray(value)
    # The caller's own: a state or a constant may be what was given back.
    with np.errstate(over="ignore"):
        return np.array(value.numpy()).astype(dtype)


def _count(block: Any, counts: dict[str, int]) -> None:
    for step in block.steps:
        counts[step.operator] = counts.get(step.operator, 0) + 1
        for nested in step.blocks:
            _count(nested, counts)


__all__ = ["EngineError", "Port", "Program", "State", "load_program"]
