"""What was found over all cases: outputs, what a user sees of them, and files as they are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from edgeward.runtimes.engines.base import Tensor
from edgeward.runtimes.tasks.ctc import CtcLetters

from .feeding import DIFFERENCES
from .sketch import Sketch, compare_sketches, sketch
from .tensor_files import FileSource, TensorCase, TensorCases
from .words import word_errors

Ran = tuple[TensorCase, Mapping[str, Tensor]]
_NO_PICKS = np.zeros(0, np.int32)


class Counted:
    """Counts an artifact's outputs; `folder` holds the settings by which files are read.

    Outputs of files are told `apart` where versions of Pillow may differ by a level of a pixel.
    """

    def __init__(self, given: TensorCases, folder: Path | None, *, apart: bool) -> None:
        self._given, self._folder = given, folder
        self._view = given.open_view()
        self._pairs: list[tuple[Sketch, Sketch]] = []
        self._of_files = [] if apart else self._pairs
        self._apart = apart
        self._fed: dict[str, list[tuple[Sketch, Sketch]]] = {}
        self._right: list[tuple[bool, bool]] = []
        self._errors, self._original_errors, self._words = 0, 0, 0

    def add(self, ran: Iterable[Ran], *, files: bool = False) -> None:
        """Count outputs."""
        pairs = self._of_files if files else self._pairs
        for case, outputs in ran:
            for name, kept in case.outputs.items():
                axis = self._given.classes.get(name)
                pairs.append((kept, sketch(outputs[name], axis)))
            if self._view is not None and case.kept is not None:
                self._view.add(case.kept, outputs)

    def add_files(self, ran: Iterable[Ran]) -> None:
        """Count outputs, and what was made of the files behind them."""
        for case, outputs in ran:
            self.add([(case, outputs)], files=True)
            source = case.source
            if source is None:
                continue
            fed = (Sketch(source.fed, _NO_PICKS), sketch(case.inputs[source.feeds]))
            self._fed.setdefault(DIFFERENCES[source.feeds], []).append(fed)
            self._judge_class(case, source, outputs)
            self._judge_words(case, source, outputs)

    def metrics(self) -> dict[str, float]:
        """Return every figure.

        `files_cosine_min` is of the outputs of files, `accuracy` and `transcript_wer` of those
        whose class or words were given, beside the original's own.
        """
        found = compare_sketches(self._pairs or self._of_files)
        if self._apart and self._of_files:
            found["files_cosine_min"] = compare_sketches(self._of_files)["cosine_min"]
        for name, pairs in self._fed.items():
            found[name] = compare_sketches(pairs)["relative_difference"]
        if self._view is not None:
            found |= self._view.metrics()
        if self._right:
            mine, original = np.mean(self._right, axis=0)
            found |= {"accuracy": float(mine), "accuracy_original": float(original)}
        if self._words:
            found["transcript_wer"] = self._errors / self._words
            found["transcript_wer_original"] = self._original_errors / self._words
        return found

    def _judge_class(
        self, case: TensorCase, source: FileSource, outputs: Mapping[str, Tensor]
    ) -> None:
        if source.label < 0 or "logits" not in case.outputs:
            return
        picked = case.outputs["logits"].picked
        mine = int(np.asarray(outputs["logits"])[0].argmax())
        self._right.append((mine == source.label, picked.tolist() == [source.label]))

    def _judge_words(
        self, case: TensorCase, source: FileSource, outputs: Mapping[str, Tensor]
    ) -> None:
        if not source.words or case.kept is None or self._view is None or self._folder is None:
            return
        letters = CtcLetters(self._folder)
        wrong, counted = word_errors(source.words, letters.text(self._view.keep(outputs).tolist()))
        self._errors += wrong
        self._words += counted
        self._original_errors += word_errors(source.words, letters.text(case.kept.tolist()))[0]
