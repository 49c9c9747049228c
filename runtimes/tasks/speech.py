"""Speech to text as Whisper does it: log-mel frames of 30 seconds, a decoder that writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import UsageError
from edgeward.runtimes.engines.base import EngineSession, Tensor

from .generation import context_limit, read_settings
from .log_mel import LogMel, mel_settings
from .sequences import SequenceGraph
from .sound import Sound, read_sound
from .tokens import load_tokenizer
from .writing_rules import WritingRules, read_rules, token

Floats = NDArray[np.float32]
# Behind this share of a window its quietest moment is sought, so that no word is cut.
_CUT_FROM = 0.8
_QUIET_SECONDS = 0.1
_DEFAULT_LIMIT = 448


class Part(NamedTuple):
    """What was said between two moments, in seconds."""

    text: str
    start: float
    end: float


class Transcript(NamedTuple):
    """The whole text, and the stretches that were heard at once."""

    text: str
    parts: tuple[Part, ...]

    @property
    def seconds(self) -> float:
        """How long the sound is."""
        return self.parts[-1].end if self.parts else 0.0


class SpokenRules:
    """The rules of a model that writes speech: which tokens tell it the language and the task."""

    def __init__(self, folder: Path) -> None:
        settings = read_settings(folder / "generation_config.json")
        self._rules = read_rules(folder)
        self._languages = _ids(settings.get("lang_to_id"))
        self._tasks = _ids(settings.get("task_to_id"))
        self._plain = token(settings.get("no_timestamps_token_id"))

    def check(self, language: str | None, translate: bool) -> None:
        """Raise UsageError where the model knows no such language, or does not translate."""
        if language is not None and _code(language) not in self._languages:
            known = ", ".join(sorted(name.strip("<|>") for name in self._languages))
            why = f"known: {known}" if known else "it knows one, and is not told which"
            raise UsageError(f"The model knows no language {language!r}", why=why)
        if translate and "translate" not in self._tasks:
            raise UsageError("This model does not translate")

    def given(
        self,
        first_logits: Callable[[Sequence[int]], Floats],
        language: str | None = None,
        translate: bool = False,
    ) -> WritingRules:
        """Return the rules with their whole prefix.

        `first_logits` gives the logits (vocabulary,) behind the first token: from them a language
        is picked where none is told.
        """
        prefix = list(self._rules.prefix[:1])
        if self._languages:
            told = self._languages.get(_code(language)) if language is not None else None
            prefix.append(told if told is not None else self._heard(first_logits(prefix)))
            task = self._tasks.get("translate" if translate else "transcribe")
            prefix += [task] if task is not None else []
        if self._plain is not None:
            prefix.append(self._plain)
        return replace(self._rules, prefix=tuple(prefix))

    def _heard(self, logits: Floats) -> int:
        inside = [number for number in self._languages.values() if number < len(logits)]
        return max(inside, key=lambda number: float(logits[number]))


class Transcriber:
    """Writes what a sound says with one engine session; threads may share it."""

    def __init__(self, folder: Path, engine: EngineSession) -> None:
        self.tokenizer = load_tokenizer(folder / "tokenizer.json")
        self.mel = LogMel(mel_settings(folder))
        self.graph = SequenceGraph(engine)
        self.limit = writing_limit(folder)
        self._rules = SpokenRules(folder)

    def __call__(
        self,
        sound: Sound,
        *,
        rate: int | None = None,
        language: str | None = None,
        translate: bool = False,
    ) -> tuple[Transcript, int]:
        """Return the transcript and how many tokens it has.

        `language` is a code such as `de`, None lets a model of several languages listen for it;
        `translate` writes English. Raises UsageError where the sound cannot be read or the model
        knows no such language or does not translate.
        """
        self._rules.check(language, translate)
        heard = self.mel.settings
        samples = read_sound(sound, rate, heard.rate)
        parts, written = [], 0
        for start, end in windows(samples, heard.rate, heard.seconds):
            inputs = self.inputs(samples[start:end])
            rules = self.rules(inputs, language, translate)
            ids = self.continued(inputs, rules, self.limit - len(rules.prefix))
            text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
            parts.append(Part(text.strip(), start / heard.rate, end / heard.rate))
            written += len(ids)
        whole = " ".join(part.text for part in parts if part.text)
        return Transcript(whole, tuple(parts)), written

    def inputs(self, samples: Floats) -> dict[str, Tensor]:
        """Return what the encoder reads of one window of samples."""
        return {"input_features": self.mel(samples)}

    def rules(
        self, inputs: Mapping[str, Tensor], language: str | None = None, translate: bool = False
    ) -> WritingRules:
        """Return the rules for what is heard."""

        def first_logits(prefix: Sequence[int]) -> Floats:
            return self.graph.read(inputs).next_logits(prefix)

        return self._rules.given(first_logits, language, translate)

    def continued(
        self, inputs: Mapping[str, Tensor], rules: WritingRules, tokens: int
    ) -> list[int]:
        """Return the likeliest tokens behind the rules' prefix, an end among them."""
        return self.graph.written(inputs, rules, tokens)


def writing_limit(folder: Path) -> int:
    """Return how many tokens the decoder takes."""
    config = read_settings(folder / "config.json")
    stated = config.get("max_target_positions")
    known = stated if type(stated) is int and stated > 0 else context_limit(folder, config)
    return known or _DEFAULT_LIMIT


def windows(samples: Floats, rate: int, seconds: int) -> Iterator[tuple[int, int]]:
    """Give (start, end) of stretches that a model hears at once, cut where it is quiet."""
    longest, quiet = seconds * rate, int(_QUIET_SECONDS * rate)
    start = 0
    while len(samples) - start > longest:
        first = start + int(_CUT_FROM * longest)
        loudness = np.cumsum(np.square(samples[first : start + longest], dtype=np.float64))
        near = loudness[quiet:] - loudness[:-quiet]
        end = first + int(near.argmin()) + quiet // 2 if len(near) else start + longest
        yield start, end
        start = end
    yield start, len(samples)


def _ids(stated: Any) -> dict[str, int]:
    given = stated if isinstance(stated, dict) else {}
    found = {str(name): token(number) for name, number in given.items()}
    return {name: number for name, number in found.items() if number is not None}


def _code(language: str) -> str:
    return f"<|{language}|>"
