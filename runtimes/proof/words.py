"""Word errors: how many words of a text have to be changed to become another."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


def word_errors(reference: str, text: str) -> tuple[int, int]:
    """Return the least insertions, deletions and substitutions, and the reference's words.

    Levenshtein 1966, over words in lower case without punctuation.
    """
    wanted, found = _words(reference), _words(text)
    return changes(wanted, found), len(wanted)


def word_error_rate(references: Sequence[str], texts: Sequence[str]) -> float:
    """Return the share of all words that differ; a reference without words is left out."""
    counted = [word_errors(*pair) for pair in zip(references, texts, strict=True) if pair[0]]
    return sum(wrong for wrong, _ in counted) / max(sum(words for _, words in counted), 1)


def letter_error_rate(references: Sequence[str], texts: Sequence[str]) -> float:
    """Return the share of all letters that differ, words parted by one space.

    Of a few words it tells more than their errors do: one of them alone is a large share.
    """
    pairs = zip(references, texts, strict=True)
    told = [(" ".join(_words(one)), " ".join(_words(other))) for one, other in pairs if one]
    return sum(changes(*pair) for pair in told) / max(sum(len(wanted) for wanted, _ in told), 1)


def changes(wanted: Sequence[object], found: Sequence[object]) -> int:
    """Return the least insertions, deletions and substitutions from one row to the other."""
    row = list(range(len(found) + 1))
    for number, item in enumerate(wanted, 1):
        before, row[0] = row[0], number
        for place, other in enumerate(found, 1):
            changed = before + (item != other)
            before = row[place]
            row[place] = min(changed, row[place] + 1, row[place - 1] + 1)
    return row[-1]


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFC", text).lower())
