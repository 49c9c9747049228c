"""What a model's own files say about the tokens that an encoder-decoder writes.

The names are those of transformers' generation_config.json; config.json stands in for it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import UnsupportedError

from .generation import end_tokens, read_settings
from .sampling import Sampler
from .streaming import Pick

Floats = NDArray[np.float32]
_LARGEST_TOKEN = 2**31 - 1
_MOST_TOKENS = 100_000


@dataclass(frozen=True, slots=True)
class WritingRules:
    """`prefix` goes before the first token that is picked; what ends a text and what is never said.

    `suppressed_first` holds for the first token alone.
    """

    prefix: tuple[int, ...]
    ends: frozenset[int]
    suppressed: tuple[int, ...] = ()
    suppressed_first: tuple[int, ...] = ()

    def picker(self, sampler: Sampler) -> Pick:
        """Return what picks tokens by these rules, the first one first."""
        first = True

        def pick(logits: Floats, seen: Collection[int]) -> int:
            nonlocal first
            kept = without(logits, self.suppressed)
            if first:
                kept = without(kept, self.suppressed_first)
            first = False
            return sampler(kept, seen)

        return pick


def read_rules(folder: Path) -> WritingRules:
    """Read a model's rules; UnsupportedError where no file names the token to begin with."""
    config = read_settings(folder / "config.json")
    stated = {**config, **_without_none(read_settings(folder / "generation_config.json"))}
    start = token(stated.get("decoder_start_token_id"))
    if start is None:
        start = token(stated.get("bos_token_id"))
    if start is None:
        raise UnsupportedError(
            "The model names no first token", why="no file has a decoder_start_token_id"
        )
    forced = token(stated.get("forced_bos_token_id"))
    single = [bad[0] for bad in _listed(stated.get("bad_words_ids")) if _is_one(bad)]
    return WritingRules(
        prefix=(start,) if forced is None else (start, forced),
        ends=end_tokens(folder, config),
        suppressed=(*tokens(stated.get("suppress_tokens")), *tokens(single)),
        suppressed_first=tokens(stated.get("begin_suppress_tokens")),
    )


def without(logits: Floats, suppressed: Collection[int]) -> Floats:
    """Return logits (vocabulary,) where the suppressed tokens cannot be picked."""
    inside = [number for number in suppressed if number < len(logits)]
    if not inside:
        return logits
    kept: Floats = logits.copy()
    kept[inside] = -np.inf
    return kept


def token(value: Any) -> int | None:
    """Return a token id, None where the value is none."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if type(value) is int and 0 <= value <= _LARGEST_TOKEN else None


def tokens(value: Any) -> tuple[int, ...]:
    """Return the token ids of a list; what is none is left out, as -1 of older files."""
    found = (token(one) for one in _listed(value))
    return tuple(number for number in found if number is not None)


def _listed(value: Any) -> list[Any]:
    return value[:_MOST_TOKENS] if isinstance(value, list) else []


def _is_one(bad: Any) -> bool:
    return isinstance(bad, list) and len(bad) == 1


def _without_none(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}
