"""Ollama's Modelfile: what it says, and the text of it.

See https://docs.ollama.com/modelfile. A value stands between three quotes where it has lines or
quotes of its own; Ollama keeps printable characters and white space alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeward.errors import SourceError
from edgeward.runtimes.tasks.generation import context_limit, read_settings
from edgeward.runtimes.tasks.labels import read_config

from .gguf_modelfile_template import is_printable

_QUOTES = '"""'
# A cache of this length fits a small device; a model's own limit may be a hundred times it.
_MOST_CONTEXT = 8192
_MOST_STOPS = 16
_MAX_LENGTH = 256
# Ollama's name of what generation_config.json says, by the name that it has there.
_NUMBERS = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}


@dataclass(frozen=True, slots=True)
class Modelfile:
    """A Modelfile's instructions; what is empty is left out.

    `model` and `adapter` are names of files beside it, `comment` are lines that Ollama skips.
    """

    model: str
    parameters: tuple[tuple[str, str], ...] = ()
    template: str = ""
    system: str = ""
    licence: str = ""
    adapter: str = ""
    comment: str = ""

    def text(self) -> str:
        """Return the file's content."""
        lines = [f"# {line}".rstrip() for line in self.comment.splitlines()]
        lines.append(f"FROM ./{self.model}")
        lines += [f"ADAPTER ./{self.adapter}"] if self.adapter else []
        lines += [f"TEMPLATE {_quoted(self.template)}"] if self.template else []
        lines += [f"PARAMETER {name} {_quoted(value)}" for name, value in self.parameters]
        lines += [f"SYSTEM {_quoted(self.system)}"] if self.system else []
        lines += [f"LICENSE {_quoted(self.licence)}"] if self.licence else []
        return "\n".join(lines) + "\n"


def fits(text: str) -> bool:
    """Tell whether a Modelfile can hold a text as it is."""
    return _QUOTES not in text and not text.endswith('"') and is_printable(text)


def legible(text: str) -> str:
    """Return a text as a Modelfile can hold it: what Ollama would drop or misread is left out."""
    kept = "".join(character for character in text if is_printable(character))
    return kept.replace(_QUOTES, "''").strip().rstrip('"')


def parameters(folder: Path, *, generates: bool) -> tuple[tuple[str, str], ...]:
    """Return what the model's own files say of sampling, stops and context, in Ollama's names."""
    config = read_config(folder)
    found: list[tuple[str, str]] = []
    if generates:
        settings = read_settings(folder / "generation_config.json")
        found += [("stop", text) for text in _stops(folder, {**config, **settings})]
        found += _sampling(settings)
    limit = context_limit(folder, config)
    if limit is not None:
        found.append(("num_ctx", str(min(limit, _MOST_CONTEXT))))
    return tuple(found)


def _sampling(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Give the numbers that are stated; a model that is not to be sampled has no temperature."""
    greedy = settings.get("do_sample") is False
    if greedy:
        yield "temperature", "0"
    for name, ollama in _NUMBERS.items():
        value = settings.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        if not (math.isfinite(value) and value >= 0) or (greedy and name != "repetition_penalty"):
            continue
        yield ollama, f"{value:g}" if isinstance(value, float) else str(value)


def _stops(folder: Path, settings: Mapping[str, Any]) -> list[str]:
    """Return the texts that end an answer: the tokens that do so, and the stated texts."""
    ids = settings.get("eos_token_id")
    listed = ids if isinstance(ids, list) else [ids]
    texts = _special_texts(folder)
    found = [texts[number] for number in listed if type(number) is int and number in texts]
    stated = settings.get("stop_strings")
    found += [text for text in (stated if isinstance(stated, list) else [stated]) if text]
    usable = [t for t in found if isinstance(t, str) and len(t) <= _MAX_LENGTH and fits(t)]
    return list(dict.fromkeys(usable))[:_MOST_STOPS]


def _special_texts(folder: Path) -> dict[int, str]:
    """Return the texts of the tokens that a tokenizer adds to its vocabulary, by their ids."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return {}
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001  the library raises nothing narrower
        raise SourceError("tokenizer.json cannot be used", why=str(error)[:300]) from None
    return {number: token.content for number, token in tokenizer.get_added_tokens_decoder().items()}


def _quoted(text: str) -> str:
    if "\n" in text or '"' in text or text != text.strip():
        return f"{_QUOTES}{text}{_QUOTES}"
    return f'"{text}"' if " " in text or not text else text
