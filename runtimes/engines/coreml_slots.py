"""A Core ML decoder called in slots: it keeps its cache as states, or takes it and gives it back.

States came with iOS 18. Before them what goes in as NAME comes out as `new_NAME`, for the next call
to take. What an encoder gave goes in beside, the same at every call.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import EngineError, UsageError

from .base import Tensor

IDS, POSITION, LOGITS, NEW = "input_ids", "position", "logits", "new_"
Shape = tuple[int, ...]


class Packages(Protocol):
    """A session that has a decoder's functions."""

    def computed(
        self, inputs: Mapping[str, Tensor], states: Sequence[Any] | None
    ) -> dict[str, Tensor]:
        """Run once on such states, which are changed; floats come as float32."""

    def states(self) -> list[Any]:
        """Return fresh states of every package."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How many tokens a call and a cache have; shapes of what is given back, and of the rest."""

    steps: tuple[int, ...]
    context: int
    cache: Mapping[str, Shape]
    held: Mapping[str, Shape]


def layout_of(
    functions: Sequence[Mapping[str, Shape]], outputs: Collection[str], states: Sequence[Shape]
) -> Layout | None:
    """Return how a program decodes, None where it is no decoder with a cache.

    `functions` are the inputs of each. Raises EngineError where they do not share one cache.
    """
    first = functions[0]
    if not {IDS, POSITION} <= set(first) or LOGITS not in outputs:
        return None
    beside = [_without(inputs, (IDS, POSITION)) for inputs in functions]
    cache = {name: shape for name, shape in beside[0].items() if NEW + name in outputs}
    kept = [*states, *cache.values()]
    if not kept:
        return None
    lengths = {shape[2] if len(shape) == 4 else 0 for shape in kept}
    if any(one != beside[0] for one in beside) or len(lengths) != 1 or 0 in lengths:
        raise EngineError("The functions of this package do not share one cache")
    steps = sorted(inputs[IDS][1] for inputs in functions)
    return Layout(tuple(steps), lengths.pop(), cache, _without(beside[0], cache))


def _without(inputs: Mapping[str, Shape], names: Collection[str]) -> dict[str, Shape]:
    return {name: shape for name, shape in inputs.items() if name not in names}


@dataclass(slots=True)
class SlotCache:
    """One text's cache: states, arrays that are replaced by each call, and what stays."""

    states: list[Any]
    arrays: dict[str, Tensor]
    held: Mapping[str, Tensor]


class PackageSlots:
    """A SlottedEngine of `runtimes/tasks/slots.py` over a session's functions."""

    def __init__(self, session: Packages, layout: Layout) -> None:
        self._session, self._layout = session, layout
        self.steps: Sequence[int] = layout.steps
        self.context = layout.context

    def fresh(self, held: Mapping[str, Tensor]) -> SlotCache:
        """Return a cache of zeros; UsageError where what stays beside it is not what is taken."""
        wanted = self._layout.held
        odd = sorted(set(held) - set(wanted))
        if odd:
            raise UsageError("This decoder does not look back at that", why=f"it takes no {odd[0]}")
        for name, shape in wanted.items():
            if name not in held or np.shape(held[name]) != shape:
                raise UsageError(f"The decoder needs {name} of shape {list(shape)}")
        empty: dict[str, Tensor] = {
            name: np.zeros(shape, np.float32) for name, shape in self._layout.cache.items()
        }
        return SlotCache(self._session.states(), empty, dict(held))

    def call(
        self,
        size: int,
        ids: NDArray[np.int32],
        position: int,
        cache: SlotCache,
        told: int | None = None,
    ) -> Tensor:
        """Run `ids` (1, size) from slot `position` on: logits (1, told, vocabulary)."""
        del size
        given = {IDS: ids, POSITION: np.array([position], np.int32), **cache.arrays, **cache.held}
        found = self._session.computed(given, cache.states)
        cache.arrays = {name: found[NEW + name] for name in cache.arrays}
        return found[LOGITS][:, :told]
