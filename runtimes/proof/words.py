"""Word errors: how many words of a text have to be changed to become another."""

from __future__ import annotations

import re
import unicodedata

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


def word_errors(reference: str, text: str) -> tuple[int, int]:
    """Return the least insertions, deletions and substitutions, and the reference's words.

    Levenshtein 1966, over words in lower case without punctuation.
    """
    wanted, found = _words(reference), _words(text)
    row = list(range(len(found) + 1))
    for number, word in enumerate(wanted, 1):
        before, row[0] = row[0], number
        for place, other in enumerate(found, 1):
            changed = before + (word != other)
            before = row[place]
            row[place] = min(changed, row[place] + 1, row[place - 1] + 1)
    return row[-1], len(wanted)


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFC", text).lower())
