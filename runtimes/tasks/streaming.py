"""Token after token to text: picking until an end, whole characters, stop strings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import UsageError

Floats = NDArray[np.float32]
DEFAULT_MAX_TOKENS = 128
_MAX_STOPS, _MAX_STOP_LENGTH = 16, 1000
_UNFINISHED = "\ufffd"


class Piece(NamedTuple):
    """One generated token, and the text that it settles.

    `text` is empty while a character or a possible stop string is not complete. `finish` stands on
    the last piece: `stop` (the model's end of text, or a stop string) or `length`.
    """

    text: str
    token: int
    finish: str | None = None


class Running(Protocol):
    """A sequence on its way through a decoder."""

    def next_logits(self, ids: Sequence[int]) -> Floats:
        """Add tokens and return the logits after the last, (vocabulary,)."""


Pick = Callable[[Floats, Collection[int]], int]


def picked_tokens(state: Running, ids: Sequence[int], pick: Pick) -> Iterator[int]:
    """Give token after token behind `ids`; `pick` sees the logits and all tokens so far."""
    seen = set(ids)
    new: Sequence[int] = ids
    while True:
        token = pick(state.next_logits(new), seen)
        seen.add(token)
        yield token
        new = [token]


def pieces(
    tokens: Iterator[int], ends: Collection[int], most: int, text: TextStream
) -> Iterator[Piece]:
    """Give at most `most` tokens with the text that each settles, up to an end or a stop string."""
    for number, token in enumerate(tokens, 1):
        ended = token in ends
        settled = "" if ended else text.add(token)
        if text.stopped:
            yield Piece(settled, token, "stop")
            return
        finish = "stop" if ended else "length" if number == most else None
        if finish:
            settled += text.flush()
        yield Piece(settled, token, "stop" if text.stopped else finish)
        if finish:
            return


def checked_stops(stop: Sequence[str]) -> tuple[str, ...]:
    """Return the stop strings; UsageError where there are too many or one is too long."""
    given = (stop,) if isinstance(stop, str) else tuple(stop)
    if len(given) > _MAX_STOPS:
        raise UsageError(f"There may be {_MAX_STOPS} stop strings, not {len(given)}")
    for text in given:
        if not isinstance(text, str) or not 0 < len(text) <= _MAX_STOP_LENGTH:
            raise UsageError(f"A stop string has 1 to {_MAX_STOP_LENGTH} characters")
    return given


def checked_max_tokens(max_tokens: int) -> int:
    """Return it; UsageError where it is no number of tokens."""
    if type(max_tokens) is not int or max_tokens < 1:
        raise UsageError(f"max_tokens is at least 1, not {max_tokens!r}")
    return max_tokens


class TextStream:
    """Token ids to text as they come: whole characters, and never a part of a stop string."""

    def __init__(self, tokenizer: Any, stops: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stops = tuple(stops)
        self._window: list[int] = []
        self._settled = 0
        self._held = ""
        self.stopped = False

    def add(self, token: int) -> str:
        """Return the text that a token settles."""
        self._window.append(token)
        text = self._text(self._window)
        before = self._text(self._window[: self._settled])
        if text.endswith(_UNFINISHED) or len(text) <= len(before):
            return ""
        self._window = self._window[self._settled :]
        self._settled = len(self._window)
        return self._unstopped(text[len(before) :])

    def flush(self) -> str:
        """Return what is still held, at the end."""
        before = self._text(self._window[: self._settled])
        rest = self._unstopped(self._text(self._window)[len(before) :])
        if not self.stopped:
            rest, self._held = rest + self._held, ""
        self._window, self._settled = [], 0
        return rest

    def _unstopped(self, text: str) -> str:
        held = self._held + text
        found = [at for at in (held.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self.stopped, self._held = True, ""
            return held[: min(found)]
        keep = _longest_beginning(held, self._stops)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def _text(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text


def _longest_beginning(text: str, stops: Sequence[str]) -> int:
    """How many of the last characters may be the beginning of a stop string."""
    longest = max((len(stop) for stop in stops), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-length:]) for stop in stops):
            return length
    return 0
