"""Rows of tests of operators: what is converted, and what it is held against."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One program.

    `name` is an operator of MIL, with a variant behind a stroke; the program has to hold it.
    `given` is an expression of the inputs x, y, z: of torch, or of coremltools' builder `mb`, then
    `wanted` is the same in torch. `inputs` are their kinds and shapes: `f` normal, `p` positive,
    `u` within ±0.9, `i9` whole numbers below 9, `i9+1` those and one more, `d9` different ones.
    `parts` is an expression of a module, `self.a`.
    """

    name: str
    given: str
    inputs: str
    wanted: str = ""
    parts: str = ""
    opset: str = "iOS18"

    @property
    def operator(self) -> str:
        """The operator that the program has to hold."""
        return self.name.partition("/")[0]
