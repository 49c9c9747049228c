"""How far an encoder and decoder is from the original: what it finds likely, and what it writes.

A case carries the text or the sound that is read, not the tensors made of it, so that a proof
covers the tokenizer and the log-mel frames of the device too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.runtimes.engines.base import Tensor
from edgeward.runtimes.session import Session
from edgeward.runtimes.tasks.speech import Transcriber
from edgeward.runtimes.tasks.text_to_text import TextToText
from edgeward.runtimes.tasks.writing_rules import WritingRules

from .case_files import Tensors, read_listed, write_listed
from .generation import (
    TYPICAL_TOKENS,
    Floats,
    GenerationCase,
    case_tensors,
    distribution_metrics,
    read_case,
    stated_case,
)
from .sketch import Sketch, compare_sketches, sketch
from .words import letter_error_rate, word_error_rate

Task = TextToText | Transcriber
_SCALE = np.float32(32768)
_NO_PICKS = np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True)
class SequenceCase:
    """What is read, and what the original made of it.

    `written` holds the decoder's tokens, its first `prefix` ones given, the rest written by the
    original; `text` is what transformers' own `generate` wrote in as many tokens. A text has
    `source_ids`; a sound has int16 samples at the model's rate, a sketch of its frames, and the
    `words` that it says where they were given.
    """

    written: GenerationCase
    prefix: int
    text: str
    source_ids: tuple[int, ...] = ()
    sound: NDArray[np.int16] | None = None
    frames: NDArray[np.float32] | None = None
    words: str = ""

    @property
    def samples(self) -> Floats:
        """The sound as float32 between -1 and 1."""
        return np.asarray(np.asarray(self.sound) / _SCALE, np.float32)


@dataclass(frozen=True, slots=True)
class _Reading:
    """One case in a task: what has been read is continued as the original was asked to."""

    task: Task
    inputs: Mapping[str, Tensor]
    rules: WritingRules

    def logits(self, ids: Sequence[int]) -> Floats:
        return self.task.graph.read(self.inputs).logits(ids)

    def continued(self, ids: Sequence[int], tokens: int) -> list[int]:
        del ids
        return self.task.continued(self.inputs, self.rules, tokens)


def sequence_metrics(task: Task, cases: Sequence[SequenceCase]) -> dict[str, float]:
    """Run every case: its distributions, what it writes, and what it made of text or sound.

    `wer` is the share of words (Levenshtein) that differ from those of the original, `cer` that of
    letters; where a sound
    is read `features_difference` is the largest of its frames' over their deviation, where a text
    is read `token_ids_equal` the share of texts whose ids are the original's.
    """
    told = [(reading(task, case), case) for case in cases]
    found = distribution_metrics((each, case.written) for each, case in told)
    texts = [_decoded(task, each.continued((), len(case.written.greedy))) for each, case in told]
    originals = [case.text for case in cases]
    found["wer"] = word_error_rate(originals, texts)
    found["cer"] = letter_error_rate(originals, texts)
    said = [case.words for case in cases]
    if any(said):
        found["transcript_wer"] = word_error_rate(said, texts)
        found["transcript_wer_original"] = word_error_rate(said, originals)
    if isinstance(task, TextToText):
        equal = [
            list(case.source_ids) == each.inputs["input_ids"][0].tolist() for each, case in told
        ]
        return {**found, "token_ids_equal": sum(equal) / len(equal)}
    return {**found, "features_difference": _features_difference(told)}


def reading(task: Task, case: SequenceCase) -> _Reading:
    """Return a case as the task reads it, its prefix the original's."""
    if isinstance(task, TextToText):
        inputs = task.inputs(str(case.written.prompt))
    else:
        inputs = task.inputs(case.samples)
    rules = replace(task.rules(inputs), prefix=case.written.ids[: case.prefix])
    return _Reading(task, inputs, rules)


def metrics(session: Session, cases: Sequence[SequenceCase]) -> dict[str, float]:
    """Run every case in the session's engine."""
    return sequence_metrics(session.sequences, cases)


def request(session: Session, cases: Sequence[SequenceCase]) -> Callable[[], object]:
    """Return one typical request: the middle case read, and some tokens written."""
    each = reading(session.sequences, typical(cases))
    return lambda: each.continued((), TYPICAL_TOKENS)


def sample(folder: Path) -> Mapping[str, Tensor]:
    """Return the decoder's tokens of the middle case; what the encoder gives is left out."""
    case = typical(read_cases(folder))
    return {"input_ids": np.array([case.written.ids], np.int64)}


def typical(cases: Sequence[SequenceCase]) -> SequenceCase:
    """Return the case of middle length."""
    ordered = sorted(cases, key=lambda case: (len(case.source_ids), len(case.written.ids)))
    return ordered[len(ordered) // 2]


def count(cases: Sequence[SequenceCase]) -> int:
    """How many cases there are."""
    return len(cases)


def write_cases(folder: Path, cases: Sequence[SequenceCase]) -> None:
    """Write both files below `folder`, under the names that a bundle gives them."""
    stated = [
        {
            **stated_case(case.written),
            "prefix": case.prefix,
            "text": case.text,
            "source_ids": list(case.source_ids),
            "words": case.words,
        }
        for case in cases
    ]
    tensors: Tensors = {}
    for number, case in enumerate(cases):
        tensors |= case_tensors(case.written, number)
        for name, value in (("sound", case.sound), ("frames", case.frames)):
            if value is not None:
                tensors[f"{number}.{name}"] = np.ascontiguousarray(value)
    write_listed(folder, stated, tensors)


def read_cases(folder: Path) -> tuple[SequenceCase, ...]:
    """Read both files; IntegrityError where they are damaged or do not belong together."""
    return read_listed(folder, _case)


def _case(stated: Any, tensors: Tensors, number: int) -> SequenceCase:
    written, prefix, text = read_case(stated, tensors, number), stated["prefix"], stated["text"]
    source = tuple(stated["source_ids"])
    sound, frames = tensors.get(f"{number}.sound"), tensors.get(f"{number}.frames")
    if type(prefix) is not int or not 0 < prefix <= len(written.ids) or not isinstance(text, str):
        raise ValueError(f"case {number} has no prefix or no text")
    if not all(type(token) is int and token >= 0 for token in source):
        raise ValueError("a token id is no whole number")
    if sound is not None and (sound.dtype != np.int16 or sound.ndim != 1 or not sound.size):
        raise ValueError(f"case {number} has no sound")
    if frames is not None and not (frames.dtype == np.float32 and np.isfinite(frames).all()):
        raise ValueError(f"the frames of case {number} are not finite")
    if (sound is None) != (frames is None):
        raise ValueError(f"case {number} has a sound without its frames, or frames without it")
    words = str(stated.get("words", ""))
    return SequenceCase(written, prefix, text, source, sound, frames, words)


def _decoded(task: Task, ids: Sequence[int]) -> str:
    tokenizer = task.tokenizer.native if isinstance(task, TextToText) else task.tokenizer
    text: str = tokenizer.decode(list(ids), skip_special_tokens=True)
    return text


def _features_difference(told: Sequence[tuple[_Reading, SequenceCase]]) -> float:
    found = compare_sketches(
        (Sketch(np.asarray(case.frames), _NO_PICKS), sketch(each.inputs["input_features"]))
        for each, case in told
    )
    return found["relative_difference"]
