"""Words and letters that have to be changed, by jiwer."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

from edgeward.targets.evaluation.cases import TEXT, Outcome

from .base import Metric, Scores, ratio, stacked

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


def wer(variant: str) -> Metric | None:
    """Return the share of words to change, of lower case and without punctuation.

    `wer-exact` takes the texts as they are.
    """
    import jiwer

    return _edits(variant, jiwer.process_words)


def cer(variant: str) -> Metric | None:
    """Return the share of letters to change, words parted by one space; `cer-exact` likewise."""
    import jiwer

    return _edits(variant, jiwer.process_characters)


def _edits(variant: str, align: Callable[[str, str], Any]) -> Metric | None:
    if variant not in ("", "exact"):
        return None

    def counted(wanted: str, text: str) -> tuple[int, int]:
        told = align(wanted, text) if variant else align(words(wanted), words(text))
        wrong = told.substitutions + told.deletions
        return wrong + told.insertions, told.hits + wrong

    def scores(outcomes: Sequence[Outcome]) -> Scores:
        rows = [
            min((counted(wanted, one.found[TEXT]) for wanted in one.case.wanted), key=_share)
            for one in outcomes
        ]
        return stacked(rows, 2)

    note = "texts as they are" if variant else "lower case, without punctuation"
    return Metric(scores, ratio, better="lower", note=note)


def words(text: str) -> str:
    """Return a text's words in lower case, without punctuation, parted by one space."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFC", text).lower()))


def _share(counted: tuple[int, int]) -> float:
    return counted[0] / max(counted[1], 1)
