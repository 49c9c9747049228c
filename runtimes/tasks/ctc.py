"""Speech to text by connectionist temporal classification: one token a frame, repeats joined.

Graves et al. 2006; the vocabulary, the blank and the gap between words are the model's own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import EngineError, SourceError, UsageError
from edgeward.runtimes.engines.base import EngineSession, Tensor

from .generation import read_settings
from .sound import Sound, read_sound
from .speech import Part, Transcript, windows
from .waveforms import Waveforms
from .writing_rules import token

Floats = NDArray[np.float32]
_SECONDS = 30


class CtcTranscriber:
    """Writes what a sound says with one engine session; threads may share it."""

    def __init__(self, folder: Path, engine: EngineSession) -> None:
        self._engine = engine
        self._waveforms = Waveforms(folder)
        self.rate = self._waveforms.rate
        self._folder = folder

    def __call__(
        self,
        sound: Sound,
        *,
        rate: int | None = None,
        language: str | None = None,
        translate: bool = False,
    ) -> tuple[Transcript, int]:
        """Return the transcript and how many tokens it has; it knows one language."""
        if language is not None or translate:
            raise UsageError("This model writes what it hears, in the language that it knows")
        letters = CtcLetters(self._folder)
        samples = read_sound(sound, rate, self.rate)
        parts, written = [], 0
        for start, end in windows(samples, self.rate, _SECONDS):
            (logits,) = self._engine.run_prepared(self.inputs(samples[start:end]), ["logits"])
            scores = np.asarray(logits, np.float32)[0]
            if not np.isfinite(scores).all():
                raise EngineError("The model gave scores that are not finite")
            ids = joined(scores.argmax(axis=-1), letters.blank)
            parts.append(Part(letters.text(ids), start / self.rate, end / self.rate))
            written += len(ids)
        whole = " ".join(part.text for part in parts if part.text)
        return Transcript(whole, tuple(parts)), written

    def inputs(self, samples: Floats) -> dict[str, Tensor]:
        """Return what the graph reads of samples: of mean 0 and variance 1 where it wants them."""
        return self._waveforms(samples)


class CtcLetters:
    """The tokens of vocab.json; SourceError where it is none."""

    def __init__(self, folder: Path) -> None:
        vocabulary = read_settings(folder / "vocab.json")
        settings = read_settings(folder / "tokenizer_config.json")
        self._letters = {n: str(letter) for letter, n in vocabulary.items() if token(n) is not None}
        if not self._letters:
            raise SourceError(f"{folder} has no vocabulary", why="vocab.json names no tokens")
        self._gap = _text(settings.get("word_delimiter_token"), "|")
        special = [_text(settings.get(name), "") for name in ("pad_token", "unk_token")]
        special += [_text(settings.get(name), "") for name in ("bos_token", "eos_token")]
        self._silent = {*special, "<pad>", "<s>", "</s>", "<unk>", "[PAD]", "[UNK]"}
        pad = _text(settings.get("pad_token"), "<pad>")
        stated = read_settings(folder / "config.json").get("pad_token_id")
        known = {letter: n for n, letter in self._letters.items()}
        self.blank = known.get(pad, token(stated) or 0)
        self.gap = known.get(self._gap, -1)

    def text(self, ids: list[int]) -> str:
        """Return the text of joined tokens."""
        letters = (self._letters.get(number, "") for number in ids)
        spoken = "".join(letter for letter in letters if letter not in self._silent)
        return " ".join(spoken.replace(self._gap, " ").split())


def joined(frames: NDArray[np.integer], blank: int) -> list[int]:
    """Return one token for each run of equal ones, blanks left out."""
    changes = np.ones(len(frames), bool)
    changes[1:] = frames[1:] != frames[:-1]
    return [int(number) for number in frames[changes] if number != blank]


def _text(value: object, otherwise: str) -> str:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) and value else otherwise
