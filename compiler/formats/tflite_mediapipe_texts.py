"""Texts for MediaPipe: what its tokenizer stands in for, and a vector of token vectors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from edgeward.errors import UnsupportedError
from edgeward.runtimes.tasks.pooling import normalize, read_pipeline
from edgeward.runtimes.tasks.tokens import load_tokenizer

_FIRST, _LAST, _UNKNOWN = "[CLS]", "[SEP]", "[UNK]"
_TINY = 1e-12
_LARGEST = 1 << 20
Pool = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def refuse_tokenizer(assets: Path) -> None:
    """Raise UnsupportedError where the model's tokenizer is not that of BERT in lower case.

    MediaPipe lowers a text, cuts it as BERT's basic and WordPiece tokenizers do, and sets [CLS]
    before and [SEP] behind it, whatever the file says.
    """
    path = assets / "tokenizer.json"
    tokenizer = load_tokenizer(path)
    model = json.loads(path.read_text("utf-8")).get("model", {})
    if model.get("type") != "WordPiece" or model.get("continuing_subword_prefix") != "##":
        raise _other(f"it is {model.get('type')}")
    if model.get("unk_token") != _UNKNOWN:
        raise _other(f"what it does not know is {model.get('unk_token')}")
    capitals, small = (tokenizer.encode(text).tokens for text in ("The SHIP, Now", "the ship, now"))
    if capitals != small:
        raise _other("it tells capitals from small letters")
    if small[:1] != [_FIRST] or small[-1:] != [_LAST]:
        raise _other(f"a text does not stand between {_FIRST} and {_LAST}")


def vocabulary(assets: Path) -> bytes:
    """Return a line for each token in the order of their ids, as BERT's vocabularies are."""
    known: dict[str, int] = load_tokenizer(assets / "tokenizer.json").get_vocab()
    if not known or max(known.values()) >= _LARGEST:
        raise _other("its ids are not those of a vocabulary")
    words = {number: word for word, number in known.items()}
    lines = (words.get(n, f"[unused-{n}]") for n in range(max(words) + 1))
    return "".join(f"{line}\n" for line in lines).encode()


def pooled(assets: Path) -> Pool:
    """Return what makes a text's vector of (1, tokens, width) and a float mask (1, tokens).

    Raises UnsupportedError for steps that the graph has no form of.
    """
    pipeline = read_pipeline(assets)
    unknown = [mode for mode in pipeline.modes if mode not in _POOLS]
    if unknown or any(step is not normalize for step in pipeline.steps):
        raise UnsupportedError(
            "MediaPipe's embedder takes the model's vector as the graph gives it",
            why=f"{pipeline.described} is not written into one: mean, CLS, max and lengths are",
        )
    if pipeline.default_prompt is not None:
        raise UnsupportedError(
            "MediaPipe puts no prompt before a text",
            why=f"this model has {pipeline.default_prompt!r} for one",
        )

    def pool(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        found = torch.cat([_POOLS[mode](tokens, mask) for mode in pipeline.modes], dim=-1)
        for _ in pipeline.steps:
            length = torch.sqrt((found * found).sum(dim=-1, keepdim=True))
            found = found / torch.clamp(length, min=_TINY)
        return found

    return pool


def _mean(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return _summed(tokens, mask) / torch.clamp(mask.sum(dim=1, keepdim=True), min=_TINY)


def _mean_sqrt(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    count = torch.clamp(mask.sum(dim=1, keepdim=True), min=_TINY)
    return _summed(tokens, mask) / torch.sqrt(count)


def _summed(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (tokens * mask[:, :, None]).sum(dim=1)


def _largest(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What is hidden counts as -1e9, as in the runtime."""
    shown = mask[:, :, None]
    return (tokens * shown - (1.0 - shown) * 1e9).amax(dim=1)


def _first(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """MediaPipe fills up behind a text."""
    del mask
    return tokens[:, 0]


_POOLS: dict[str, Any] = {
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt,
    "max": _largest,
    "cls": _first,
}


def _other(why: str) -> UnsupportedError:
    return UnsupportedError(
        "MediaPipe's tokenizer would read texts otherwise than this model's",
        why=f"MediaPipe has BERT's WordPiece in lower case, and of this one {why}",
        next="edgeward compile … without --option mediapipe=yes",
    )
