"""Answers that are equal to a reference, or share words with it, as SQuAD counts them.

Rajpurkar et al. 2016: lower case, no punctuation, no articles; the best of several references.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from edgeward.targets.evaluation.cases import TEXT, Outcome

from .base import Metric, Scores, mean, stacked

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(variant: str) -> Metric | None:
    """Return the share of equal answers; `exact-match-strict` looks at each letter."""
    if variant not in ("", "strict"):
        return None

    def equal(text: str, reference: str) -> bool:
        return text == reference if variant else plain(text) == plain(reference)

    def scores(outcomes: Sequence[Outcome]) -> Scores:
        rows = [
            [float(any(equal(one.found[TEXT], wanted) for wanted in one.case.wanted))]
            for one in outcomes
        ]
        return stacked(rows, 1)

    note = "every letter counts" if variant else "without case, punctuation and articles"
    return Metric(scores, mean, counts=True, note=note)


def token_f1(variant: str) -> Metric | None:
    """Return the mean F1 of the words that an answer and its best reference share."""

    def scores(outcomes: Sequence[Outcome]) -> Scores:
        rows = [
            [max((shared(one.found[TEXT], wanted) for wanted in one.case.wanted), default=0.0)]
            for one in outcomes
        ]
        return stacked(rows, 1)

    return None if variant else Metric(scores, mean, note="words, as SQuAD counts them")


def plain(text: str) -> str:
    """Return a text as SQuAD compares it."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def shared(text: str, reference: str) -> float:
    """Return the F1 of the words of two texts; two without words are equal."""
    given, wanted = plain(text).split(), plain(reference).split()
    if not given or not wanted:
        return float(given == wanted)
    same = sum((Counter(given) & Counter(wanted)).values())
    return 2 * same / (len(given) + len(wanted))
