"""Prompts to text, token by token: tokenise, prefill, decode with a cache, detokenise, stop."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import UnsupportedError, UsageError
from edgeward.runtimes.engines.base import EngineSession

from .chat import ChatTemplate, Message
from .decoder import Decoder, open_decoder
from .embedding import check_texts
from .pooling import read_json
from .sampling import Sampler, Sampling
from .streaming import (
    DEFAULT_MAX_TOKENS,
    Piece,
    TextStream,
    checked_max_tokens,
    checked_stops,
    picked_tokens,
    pieces,
)
from .tokens import load_tokenizer, token_limit

Floats = NDArray[np.float32]
_POSITION_LIMITS = ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length")
_LARGEST_LIMIT = 10**7


class Generator:
    """Generates text with one engine session and the model's own files; threads may share it."""

    def __init__(self, folder: Path, engine: EngineSession) -> None:
        self._folder = folder
        self._config = read_settings(folder / "config.json")
        self._tokenizer = load_tokenizer(folder / "tokenizer.json")
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.graph: Decoder = open_decoder(engine, self._config)
        self._template: ChatTemplate | None = None
        limits = (context_limit(folder, self._config), getattr(self.graph, "context", None))
        self.context_limit = min((limit for limit in limits if limit), default=None)
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
        sampler = Sampler(Sampling(temperature, top_k, top_p, min_p, repetition_penalty, seed))
        text = TextStream(self._tokenizer, checked_stops(stop))
        most = checked_max_tokens(max_tokens)
        ids = self.encode(prompt)
        most = min(most, self._room(ids))
        return pieces(self._picked(ids, sampler), self.ends, most, text)

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
        return list(itertools.islice(picked, min(tokens, self._room(ids))))

    def _picked(self, ids: Sequence[int], sampler: Sampler) -> Iterator[int]:
        return picked_tokens(self.graph.start(), ids, sampler)

    def _ids(self, text: str, special: bool) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=special).ids
        ids = ids or first_ids(self._config)
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


def end_tokens(folder: Path, config: Mapping[str, Any]) -> frozenset[int]:
    """Return the tokens that end a text: one or several, as the first file that names any says."""
    for source in (read_settings(folder / "generation_config.json"), config):
        stated = source.get("eos_token_id")
        listed = stated if isinstance(stated, list) else [stated]
        ends = frozenset(token for token in listed if type(token) is int and token >= 0)
        if ends:
            return ends
    return frozenset()


def first_ids(config: Mapping[str, Any]) -> list[int]:
    """Return the token that begins a text without any, alone; nothing where no file tells."""
    stated = [part.get("bos_token_id") for part in _parts(config)]
    return next(([token] for token in stated if type(token) is int and token >= 0), [])


def _parts(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The configuration and, in a model of several kinds, that of its texts."""
    return [part for part in (config, config.get("text_config")) if isinstance(part, Mapping)]


def context_limit(folder: Path, config: Mapping[str, Any]) -> int | None:
    """Return how many tokens prompt and answer have together, None where no file tells."""
    stated = token_limit(folder)
    limits = [stated] if stated else []
    for part in _parts(config):
        found = [part.get(name) for name in _POSITION_LIMITS]
        limits += [n for n in found if type(n) is int and 0 < n < _LARGEST_LIMIT]
    return min(limits, default=None)


def read_settings(path: Path) -> dict[str, Any]:
    """Return a JSON object, empty where there is no such file."""
    document = read_json(path) if path.is_file() else {}
    if not isinstance(document, dict):
        raise UnsupportedError(f"{path.name} is not a JSON object")
    return document
