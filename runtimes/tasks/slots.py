"""Decoding in slots: engines that take so many tokens at once, with a cache of fixed length.

What a mobile engine runs has one shape. A text is cut into calls of the sizes that it has, the last
of them padded: what a padding token leaves in the cache lies behind every token that was given, is
not seen by them, and is written over by the next call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import UnsupportedError, UsageError
from edgeward.runtimes.engines.base import EngineSession, Tensor

Floats = NDArray[np.float32]
_PADDING = 0
# Computing a token costs this share of reading the weights, which each call does once.
_TOKEN_COST = 1 / 16


class SlottedEngine(Protocol):
    """What an engine's session offers as its attribute `slotted`.

    `context` is how many tokens a cache holds; `steps` are the numbers of tokens that a call takes,
    1 among them. A cache belongs to one text; several may be in use, by a thread each.
    """

    @property
    def context(self) -> int:
        """How many tokens fit."""

    @property
    def steps(self) -> Sequence[int]:
        """How many tokens a call may have."""

    def fresh(self, held: Mapping[str, Tensor]) -> Any:
        """Return a cache that has seen nothing.

        `held` is what stays as it is for the whole text: what an encoder gave, by the names of its
        outputs, and its mask as `encoder_attention_mask`; nothing for a decoder alone.
        """

    def call(
        self,
        size: int,
        ids: NDArray[np.int32],
        position: int,
        cache: Any,
        told: int | None = None,
    ) -> Tensor:
        """Run `ids` (1, size) from slot `position` on: logits (1, told, vocabulary).

        They are those of the first `told` tokens, of all where that is None: reading the logits of
        a whole piece of a prompt takes time and memory. The cache is changed. `position` + `size`
        is never more than the context. The result may be overwritten by the next call.
        """


class Call(NamedTuple):
    """One call: how many tokens it has, and how many of them are the text's."""

    size: int
    tokens: int


def slots_of(engine: EngineSession) -> SlottedEngine | None:
    """Return the engine's slots, None where it takes texts as they come.

    Raises UnsupportedError where it cannot go on token by token.
    """
    slotted = cast("SlottedEngine | None", getattr(engine, "slotted", None))
    if slotted is not None and 1 not in slotted.steps:
        raise UnsupportedError(
            "This graph cannot write token by token",
            why=f"it takes {', '.join(map(str, slotted.steps))} tokens at once, not one",
        )
    return slotted


class SlottedDecoder:
    """Starts texts, one row each."""

    batched = False

    def __init__(self, engine: SlottedEngine) -> None:
        self._engine = engine
        self.context = engine.context

    def start(self, rows: int = 1) -> SlottedState:
        """Return a state that has seen nothing; UnsupportedError for several rows."""
        if rows != 1:
            raise UnsupportedError("A cache of slots holds one text", why=f"not {rows}")
        return SlottedState(self._engine, {})


class SlottedState:
    """One text on its way; used by one thread at a time."""

    def __init__(self, engine: SlottedEngine, held: Mapping[str, Tensor]) -> None:
        self._engine, self._cache, self._seen = engine, engine.fresh(held), 0

    def next_logits(self, ids: Sequence[int]) -> Floats:
        """Add tokens and return the logits after the last, (vocabulary,)."""
        return np.asarray(self.logits(ids, kept=1)[0])

    def logits(self, ids: Sequence[int], kept: int = 0) -> Floats:
        """Add tokens: the logits after each, (sequence, vocabulary), or after the last `kept`."""
        first = max(0, len(ids) - kept) if kept else 0
        return np.concatenate([np.array(rows, np.float32) for rows in self._run(ids, first)])

    def step(self, ids: Tensor, mask: Tensor | None = None, kept: int = 0) -> Floats:
        """Add tokens (1, new): logits (1, new, vocabulary), or of the last `kept` alone.

        `mask` (1, seen and new) has no padding: UnsupportedError where it has.
        """
        if len(ids) != 1 or (mask is not None and not np.all(mask)):
            raise UnsupportedError("A cache of slots holds one text, without padding")
        return self.logits(ids[0].tolist(), kept)[np.newaxis]

    def _run(self, ids: Sequence[int], first: int) -> Iterator[Tensor]:
        """Give the logits of call after call, (tokens, vocabulary), from token `first` on."""
        engine = self._engine
        if not len(ids):
            raise UsageError("There are no tokens to add")
        if self._seen + len(ids) > engine.context:
            raise UsageError(
                f"The text is longer than the {engine.context} tokens that this model was "
                "compiled for",
                why=f"it has {self._seen + len(ids)} tokens",
            )
        done = 0
        for size, tokens in calls(len(ids), engine.context - self._seen, engine.steps):
            given = np.full((1, size), _PADDING, np.int32)
            given[0, :tokens] = ids[done : done + tokens]
            told = tokens if done + tokens > first else 0
            logits = engine.call(size, given, self._seen, self._cache, told)
            if logits.ndim != 3 or logits.shape[:2] != (1, told):
                raise UnsupportedError(
                    "The logits are not one row a token", why=f"their shape is {logits.shape}"
                )
            self._seen += tokens
            done += tokens
            if told:
                yield logits[0, max(0, first - done + tokens) :]


class SlottedRows:
    """Several texts, each in a cache of its own, which take their tokens in turn."""

    def __init__(self, states: Sequence[SlottedState]) -> None:
        self._states = states

    def step(self, ids: Tensor) -> Floats:
        """Add tokens (rows, new) to every row: logits (rows, new, vocabulary)."""
        rows = zip(self._states, ids, strict=True)
        return np.concatenate([state.step(row[np.newaxis]) for state, row in rows])


def calls(tokens: int, room: int, steps: Sequence[int]) -> list[Call]:
    """Return the calls that run so many tokens in a cache with that much room, few and cheap.

    The largest that the text fills come first; what is left is padded where that costs less than
    calls that it fills.
    """
    if not tokens:
        return []
    sizes = [size for size in steps if size <= room]
    largest = max(size for size in sizes if size <= tokens)
    count, left = divmod(tokens, largest)
    filled = [Call(largest, largest)] * count + calls(left, room - count * largest, steps)
    padded = [Call(size, tokens) for size in sorted(sizes) if size >= tokens][:1]
    return padded if padded and _cost(padded) <= _cost(filled) else filled


def _cost(listed: Sequence[Call]) -> float:
    return sum(1 + call.size * _TOKEN_COST for call in listed)
