"""Prompts to text, token by token: tokenise, prefill, decode with a cache, detokenise, stop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import UnsupportedError, UsageError
from edgeward.runtimes.engines.base import EngineSession

from .chat import ChatTemplate, Message
from .decoder import DecoderGraph
from .embedding import check_texts
from .pooling import read_json
from .sampling import Sampler, Sampling
from .tokens import _load as load_tokenizer
from .tokens import token_limit

Floats = NDArray[np.float32]
DEFAULT_MAX_TOKENS = 128
_POSITION_LIMITS = ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length")
_LARGEST_LIMIT = 10**7
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


class Generator:
    """Generates text with one engine session and the model's own files; threads may share it."""

    def __init__(self, folder: Path, engine: EngineSession) -> None:
        self._folder = folder
        self._config = _settings(folder / "config.json")
        self._tokenizer = load_tokenizer(folder / "tokenizer.json")
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.graph = DecoderGraph(engine, self._config)
        self._template: ChatTemplate | None = None
        self.context_limit = context_limit(folder, self._config)
        self.ends = end_tokens(folder, self._config)

    def stream(
        self,
        prompt: str | Sequence[Message],
        *,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
    ) -> Iterator[Piece]:
        """Continue a text, or answer a chat's messages: one Piece a token.

        Raises UsageError at once where the request is wrong or the prompt leaves no room for a
        token, UnsupportedError where messages are given to a model without a chat template.
        """
        sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty, seed)
        stops = _checked_stops(stop)
        if type(max_tokens) is not int or max_tokens < 1:
            raise UsageError(f"max_tokens is at least 1, not {max_tokens!r}")
        ids = self.encode(prompt)
        room = self._room(ids)
        tokens = self._tokens(ids, Sampler(sampling), min(max_tokens, room))
        return self._pieces(tokens, TextStream(self._tokenizer, stops))

    def encode(self, prompt: str | Sequence[Message]) -> list[int]:
        """Return the prompt's token ids; a chat's special tokens come from its template alone."""
        if isinstance(prompt, str):
            check_texts([prompt])
            return self._ids(prompt, special=True)
        if self._template is None:
            self._template = ChatTemplate(self._folder)
        text = self._template.render(prompt)
        check_texts([text])
        return self._ids(text, special=False)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, special ones left out."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def logits(self, ids: Sequence[int]) -> Floats:
        """Return the logits after each token, float32 (sequence, vocabulary)."""
        self._room(ids, least=0)
        return self.graph.start().logits(ids)

    def continued(self, ids: Sequence[int], tokens: int) -> list[int]:
        """Return the likeliest next tokens, one after the other, an end of text among them."""
        picked = self._picked(ids, Sampler(Sampling()))
        return [next(picked) for _ in range(min(tokens, self._room(ids)))]

    def _tokens(self, ids: Sequence[int], sampler: Sampler, most: int) -> Iterator[Piece]:
        picked = self._picked(ids, sampler)
        for number in range(1, most + 1):
            token = next(picked)
            finish = "length" if number == most else None
            yield Piece("", token, "stop" if token in self.ends else finish)
            if token in self.ends:
                return

    def _picked(self, ids: Sequence[int], sampler: Sampler) -> Iterator[int]:
        state = self.graph.start()
        seen = set(ids)
        new: Sequence[int] = ids
        while True:
            token = sampler(state.next_logits(new), seen)
            seen.add(token)
            yield token
            new = [token]

    def _pieces(self, tokens: Iterator[Piece], text: TextStream) -> Iterator[Piece]:
        for piece in tokens:
            ended = piece.token in self.ends
            settled = "" if ended else text.add(piece.token)
            if text.stopped:
                yield Piece(settled, piece.token, "stop")
                return
            if piece.finish:
                settled += text.flush()
            yield Piece(settled, piece.token, "stop" if text.stopped else piece.finish)

    def _ids(self, text: str, special: bool) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=special).ids
        first = self._config.get("bos_token_id")
        if not ids and isinstance(first, int):
            ids = [first]
        if not ids:
            raise UsageError("The prompt has no tokens")
        return ids

    def _room(self, ids: Sequence[int], least: int = 1) -> int:
        if not len(ids):
            raise UsageError("The prompt has no tokens")
        if self.context_limit is None:
            return _LARGEST_LIMIT
        room = self.context_limit - len(ids)
        if room < least:
            limit = f"the model takes {self.context_limit} with the answer"
            raise UsageError("The prompt is too long", why=f"it has {len(ids)} tokens, {limit}")
        return room


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


def end_tokens(folder: Path, config: Mapping[str, Any]) -> frozenset[int]:
    """Return the tokens that end a text: one or several, as the first file that names any says."""
    for source in (_settings(folder / "generation_config.json"), config):
        stated = source.get("eos_token_id")
        listed = stated if isinstance(stated, list) else [stated]
        ends = frozenset(token for token in listed if type(token) is int and token >= 0)
        if ends:
            return ends
    return frozenset()


def context_limit(folder: Path, config: Mapping[str, Any]) -> int | None:
    """Return how many tokens prompt and answer have together, None where no file tells."""
    stated = token_limit(folder)
    limits = [stated] if stated else []
    for part in (config, config.get("text_config")):
        found = [part.get(name) for name in _POSITION_LIMITS] if isinstance(part, dict) else []
        limits += [n for n in found if type(n) is int and 0 < n < _LARGEST_LIMIT]
    return min(limits, default=None)


def _checked_stops(stop: Sequence[str]) -> tuple[str, ...]:
    given = (stop,) if isinstance(stop, str) else tuple(stop)
    if len(given) > _MAX_STOPS:
        raise UsageError(f"There may be {_MAX_STOPS} stop strings, not {len(given)}")
    for text in given:
        if not isinstance(text, str) or not 0 < len(text) <= _MAX_STOP_LENGTH:
            raise UsageError(f"A stop string has 1 to {_MAX_STOP_LENGTH} characters")
    return given


def _settings(path: Path) -> dict[str, Any]:
    document = read_json(path) if path.is_file() else {}
    if not isinstance(document, dict):
        raise UnsupportedError(f"{path.name} is not a JSON object")
    return document
