"""What an encoder and decoder is proved on: texts through the original's tokenizer, or sounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeward.runtimes.tasks.sound import parse_wav, read_sound, resample
from edgeward.runtimes.tasks.text_to_text import reading_limit
from edgeward.runtimes.tasks.tokens import token_limit

from .given_stage import Kept
from .modalities.audio import voices
from .modalities.text import grown
from .reference_model import load_tokenizer

_SHAPES = ((1, 1, 0, 1), (1, 9, 0, 4), (2, 6, 3, 1), (3, 40, 4, 5), (1, 5, 1, 1))
_SECONDS = (0.4, 2.0, 3.1)
_EVALUATED = 6
_LOUDEST = 12_000


@dataclass(frozen=True, slots=True)
class Given:
    """One case: torch tensors by the encoder's names, and the text or the sound behind them.

    `words` are what a sound says, where they were given.
    """

    name: str
    tensors: Mapping[str, Any]
    text: str = ""
    source_ids: tuple[int, ...] = ()
    sound: NDArray[np.int16] | None = None
    shape: tuple[int, int, int, int] = field(default=(1, 1, 0, 1))
    words: str = ""


class Sources(Protocol):
    """Makes what one model reads."""

    def traced(self) -> dict[str, Any]:
        """Return what the encoder is traced with, a batch of two."""

    def axes(self) -> dict[str, dict[int, str]]:
        """Return the dynamic axes of each of its inputs, by name."""

    def golden(self, texts: Mapping[str, str]) -> list[Given]:
        """Return the hard cases; `texts` are the packaged ones by name."""

    def evaluation(self, texts: Sequence[str]) -> list[Given]:
        """Return the evaluation cases."""

    def from_files(self, given: Sequence[Kept]) -> list[Given]:
        """Return one case a file that was given, none where texts are read."""

    def untraced(self, seed: int) -> list[Given]:
        """Return random inputs; `shape` is (rows, read, tokens before, tokens after them)."""


class Texts:
    """Texts through the model's own tokenizer."""

    def __init__(self, folder: Path, model: Any) -> None:
        self._tokenizer = load_tokenizer(folder)
        self._limit = token_limit(folder, reading_limit(folder))
        self._vocabulary = int(model.config.vocab_size)

    def traced(self) -> dict[str, Any]:
        """Return a padded batch."""
        (given,) = (one for one in self.untraced(0) if one.shape[0] == 2)
        return dict(given.tensors)

    def axes(self) -> dict[str, dict[int, str]]:
        """Return batch and length."""
        axes = {0: "batch", 1: "encoder_sequence"}
        return {"input_ids": axes, "attention_mask": dict(axes)}

    def golden(self, texts: Mapping[str, str]) -> list[Given]:
        """Return the packaged texts, the longest grown to the model's limit."""
        found = [self._given(name, grown(text, self._limit)) for name, text in texts.items()]
        return [given for given in found if given.source_ids]

    def evaluation(self, texts: Sequence[str]) -> list[Given]:
        """Return one case a text."""
        return [self._given(f"text {number}", text) for number, text in enumerate(texts)]

    def from_files(self, given: Sequence[Kept]) -> list[Given]:
        """Return none."""
        del given
        return []

    def untraced(self, seed: int) -> list[Given]:
        """Return random ids, the last row of a batch half padded."""
        return [self._random(shape, seed + number) for number, shape in enumerate(_SHAPES)]

    def _given(self, name: str, text: str) -> Given:
        encoded = self._tokenizer(
            [text],
            truncation=self._limit is not None,
            max_length=self._limit,
            return_tensors="pt",
        )
        tensors = {key: encoded[key] for key in ("input_ids", "attention_mask")}
        return Given(name, tensors, text, tuple(tensors["input_ids"][0].tolist()))

    def _random(self, shape: tuple[int, int, int, int], seed: int) -> Given:
        import torch

        rows, length, _, _ = shape
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(0, self._vocabulary, (rows, length), generator=generator)
        mask = torch.ones_like(ids)
        if rows > 1:
            mask[-1, length // 2 :] = 0
        return Given(f"{shape}", {"input_ids": ids, "attention_mask": mask}, shape=shape)


class Sounds:
    """Sounds through the model's own feature extractor: real speech, vowels, noise, silence."""

    def __init__(self, folder: Path, model: Any) -> None:
        from transformers import AutoFeatureExtractor

        del model
        self._extractor = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
        self._rate = int(self._extractor.sampling_rate)

    def traced(self) -> dict[str, Any]:
        """Return two sounds."""
        import torch

        pair = [self._given("", self._voice(2.0, n)).tensors["input_features"] for n in (0, 1)]
        return {"input_features": torch.cat(pair)}

    def axes(self) -> dict[str, dict[int, str]]:
        """Return the batch: the frames are those of one window."""
        return {"input_features": {0: "batch"}}

    def golden(self, texts: Mapping[str, str]) -> list[Given]:
        """Return real speech, vowels of several lengths, and silence."""
        del texts
        silence = np.zeros(self._rate, np.int16)
        voices_ = [
            self._given(f"{seconds} s", self._voice(seconds, number))
            for number, seconds in enumerate(_SECONDS)
        ]
        return [*self._speech(), *voices_, self._given("silence", silence)]

    def evaluation(self, texts: Sequence[str]) -> list[Given]:
        """Return real speech alone: the words of a vowel mean nothing."""
        del texts
        return self._speech()

    def from_files(self, given: Sequence[Kept]) -> list[Given]:
        """Return one case a sound, at the model's rate."""
        found = []
        for one in given:
            heard = parse_wav(one.content)
            sound = _whole(resample(heard.values, heard.rate, self._rate))
            found.append(replace(self._given(one.name, sound), words=one.words))
        return found

    def untraced(self, seed: int) -> list[Given]:
        """Return other batches."""
        import torch

        found = []
        for number, shape in enumerate(_SHAPES):
            rows = [
                self._given("", self._voice(1.3, seed + 10 * number + row)).tensors
                for row in range(shape[0])
            ]
            features = torch.cat([row["input_features"] for row in rows])
            found.append(Given(f"{shape}", {"input_features": features}, shape=shape))
        return found

    def _speech(self) -> list[Given]:
        """The packaged speech, at the model's rate."""
        folder = files("edgeward.compiler") / "data" / "speech"
        names = sorted(one.name for one in folder.iterdir() if one.name.endswith(".wav"))
        return [
            self._given(
                name.removesuffix(".wav"), _whole(read_sound(str(folder / name), None, self._rate))
            )
            for name in names
        ]

    def _voice(self, seconds: float, seed: int) -> NDArray[np.int16]:
        import torch

        wave = voices(1, seconds, torch.Generator().manual_seed(seed))[0].numpy()
        return _whole(wave / np.abs(wave).max() * (_LOUDEST / 32768))

    def _given(self, name: str, sound: NDArray[np.int16]) -> Given:
        heard = self._extractor(
            sound.astype(np.float32) / np.float32(32768),
            sampling_rate=self._rate,
            return_tensors="pt",
        )
        return Given(name, {"input_features": heard["input_features"].float()}, sound=sound)


def open_sources(modality: str, folder: Path, model: Any) -> Sources:
    """Return what makes inputs for this model."""
    return Sounds(folder, model) if modality == "speech" else Texts(folder, model)


def _whole(wave: NDArray[np.floating]) -> NDArray[np.int16]:
    rounded: NDArray[np.int16] = np.round(np.clip(wave, -1, 1) * 32767).astype(np.int16)
    return rounded
