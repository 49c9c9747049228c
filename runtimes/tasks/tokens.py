"""Tokenising texts with the model's own tokenizer.json, without transformers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import EngineError, SourceError, UnsupportedError
from edgeward.runtimes.engines.freed_blocks import give_back_holes

from .pooling import read_json

_FILE = "tokenizer.json"
# Those that were read ahead, each for the first that asks: its user sets padding and truncation.
_AHEAD: ContextVar[dict[Path, Any]] = ContextVar("ahead", default={})  # noqa: B039  never filled
_DEFAULT_PADDING = "[PAD]"
_DEFAULT_MASK = "[MASK]"
_UNLIMITED = 10**6
_LARGEST_ID = 2**31 - 1
_POSITIONS_AFTER_PADDING = {
    "camembert",
    "data2vec-text",
    "ibert",
    "luke",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
}


class Encoded(NamedTuple):
    """A padded batch: int64 arrays of shape (batch, sequence)."""

    ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    types: NDArray[np.int64]

    @property
    def tokens(self) -> int:
        """How many of them are not padding."""
        return int(np.count_nonzero(self.mask))


class TextTokenizer:
    """Pads to the longest text of a batch and truncates to the model's limit.

    It pads on the right whatever the model's settings say: with absolute positions a text padded
    on the left would get another vector than the text alone.
    """

    def __init__(self, folder: Path, *max_tokens: int | None) -> None:
        self._tokenizer = load_tokenizer(folder / _FILE)
        settings, config = _settings(folder), _object(folder / "config.json")
        self._settings = settings
        self.max_tokens = token_limit(folder, *max_tokens)
        token = _token_text(settings.get("pad_token")) or _DEFAULT_PADDING
        pad_id = self._tokenizer.token_to_id(token)
        if pad_id is None:
            declared = config.get("pad_token_id")
            is_id = isinstance(declared, int) and 0 <= declared <= _LARGEST_ID
            pad_id = declared if is_id else 0
        self._pad_id = int(pad_id)
        self._tokenizer.enable_padding(direction="right", pad_id=pad_id, pad_token=token)
        if self.max_tokens:
            self._tokenizer.enable_truncation(self.max_tokens)
        else:
            self._tokenizer.no_truncation()

    @property
    def padding_id(self) -> int:
        """The token that fills up a batch."""
        return self._pad_id

    @property
    def native(self) -> Any:
        """The tokenizers library's own object."""
        return self._tokenizer

    def __call__(self, texts: Sequence[str] | Sequence[tuple[str, ...]]) -> Encoded:
        """Encode a batch of at least one text, or of pairs of them."""
        batch = self._tokenizer.encode_batch_fast(texts)
        if not batch[0].ids:
            return self._only_padding(len(batch))
        return Encoded(
            np.array([e.ids for e in batch], np.int64),
            np.array([e.attention_mask for e in batch], np.int64),
            np.array([e.type_ids for e in batch], np.int64),
        )

    def encodings(self, texts: Sequence[str | tuple[str, ...]]) -> list[Any]:
        """Encode a batch with offsets; windows that a long pair overflows into follow it."""
        found: list[Any] = []
        for encoding in self._tokenizer.encode_batch(texts):
            found += [encoding, *encoding.overflowing]
        return found

    def window_pairs(self, stride: int) -> None:
        """Cut only the second text of a pair, into windows that share up to `stride` tokens."""
        if self.max_tokens:
            shared = min(stride, self.max_tokens // 4)
            self._tokenizer.enable_truncation(
                self.max_tokens, stride=shared, strategy="only_second"
            )

    def mask_token(self) -> tuple[str, int]:
        """Return the mask token and its id; UnsupportedError where the tokenizer has none."""
        token = _token_text(self._settings.get("mask_token")) or _DEFAULT_MASK
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise UnsupportedError("The tokenizer has no mask token", why=f"it lacks {token}")
        return token, int(number)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, special ones left out."""
        text: str = self._tokenizer.decode(list(ids))
        return text.strip()

    def _only_padding(self, rows: int) -> Encoded:
        """Empty texts of a tokenizer without special tokens: no graph takes a sequence of 0."""
        nothing = np.zeros((rows, 1), np.int64)
        return Encoded(np.full((rows, 1), self._pad_id, np.int64), nothing, nothing)


@contextmanager
def tokenizer_first(folder: Path) -> Iterator[None]:
    """Read the folder's tokenizer, if it has one, for what is opened within.

    Reading a vocabulary with merges takes three times what is kept of it: before an engine's
    weights are there, it does not stand beside them.
    """
    path = folder / _FILE
    before = _AHEAD.set({path: load_tokenizer(path)} if path.is_file() else {})
    try:
        yield
    finally:
        _AHEAD.reset(before)


def load_tokenizer(path: Path) -> Any:
    """Load a tokenizer.json; SourceError where it cannot be read."""
    ahead = _AHEAD.get().pop(path, None)
    return _read(path) if ahead is None else ahead


def _read(path: Path) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise EngineError(
            "tokenizers is not installed", why=str(error), next="pip install 'edgeward[onnx]'"
        ) from None
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001  tokenizers raises bare Exception
        raise SourceError(f"{path} cannot be read", why=str(error)[:500]) from None
    give_back_holes()
    return tokenizer


def token_limit(folder: Path, *wanted: int | None) -> int | None:
    """Return the smallest of the limits wanted and those that the model's files name, or None."""
    settings, config = _settings(folder), _object(folder / "config.json")
    limits = [limit for limit in wanted if limit]
    stated = settings.get("model_max_length")
    if isinstance(stated, (int, float)) and 0 < stated < _UNLIMITED:
        limits.append(max(int(stated), 1))
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and 0 < positions < _UNLIMITED:
        limits.append(max(positions - _first_position(config), 1))
    return min(limits) if limits else None


def _first_position(config: dict[str, Any]) -> int:
    """RoBERTa's family counts positions from the padding id + 1."""
    pad = config.get("pad_token_id")
    offset = config.get("model_type") in _POSITIONS_AFTER_PADDING and isinstance(pad, int)
    return int(pad) + 1 if offset and pad is not None else 0


def _settings(folder: Path) -> dict[str, Any]:
    merged = _object(folder / "special_tokens_map.json")
    return {**merged, **_object(folder / "tokenizer_config.json")}


def _object(path: Path) -> dict[str, Any]:
    document = read_json(path) if path.is_file() else {}
    return document if isinstance(document, dict) else {}


def _token_text(token: Any) -> str | None:
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None
