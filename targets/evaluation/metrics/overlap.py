"""How much of a reference's wording a text has: BLEU, ROUGE, METEOR."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from edgeward.targets.evaluation.cases import TEXT, Outcome

from .base import Metric, Rows, Scores, mean, stacked

ROUGE = {"1": "rouge1", "2": "rouge2", "l": "rougeL", "lsum": "rougeLsum"}
_GRAMS = 4
_WORD = re.compile(r"\w+|[^\w\s]")


def bleu(variant: str) -> Metric | None:
    """Return corpus BLEU of 0 to 100 by sacrebleu (Post 2018), its settings in the note."""
    from sacrebleu.metrics import BLEU

    engine = BLEU()

    def scores(outcomes: Sequence[Outcome]) -> Scores:
        return stacked([_counts(engine, one) for one in outcomes], 2 * _GRAMS + 2)

    def value(rows: Rows) -> float:
        sums = [round(one) for one in rows.sum(axis=0)]
        told = BLEU.compute_bleu(
            sums[:_GRAMS],
            sums[_GRAMS : 2 * _GRAMS],
            sums[-2],
            sums[-1],
            smooth_method=engine.smooth_method,
            smooth_value=engine.smooth_value,
        )
        return float(told.score)

    # nrefs depends on the data; the rest is what has to be told beside a figure.
    engine.corpus_score([""], [[""]])
    signature = str(engine.get_signature()).replace("nrefs:1", "nrefs:var")
    return None if variant else Metric(scores, value, note=f"0 to 100, sacrebleu {signature}")


def _counts(engine: Any, outcome: Outcome) -> list[float]:
    """Matching and all n-grams, the text's length and that of the reference nearest to it."""
    found = engine.corpus_score([outcome.found[TEXT]], [[one] for one in outcome.case.wanted])
    return [*found.counts, *found.totals, found.sys_len, found.ref_len]


def rouge(variant: str) -> Metric | None:
    """Return the mean F of ROUGE (Lin 2004) by rouge-score, stemmed, the best of references."""
    from rouge_score.rouge_scorer import RougeScorer

    name = ROUGE.get((variant or "l").lower())
    if name is None:
        return None
    engine = RougeScorer([name], use_stemmer=True)

    def best(texts: Sequence[str], text: str) -> float:
        return float(engine.score_multi(list(texts), text)[name].fmeasure)

    return Metric(_by_case(best), mean, note=f"{name}, F, stemmed")


def meteor(variant: str) -> Metric | None:
    """Return the mean METEOR (Banerjee and Lavie 2005) by NLTK, of equal words and equal stems.

    WordNet's synonyms, its third stage, need data that no package brings: figures are lower than
    those of a METEOR that has them.
    """
    from nltk.translate.meteor_score import single_meteor_score

    synonyms = _NoSynonyms()

    def best(texts: Sequence[str], text: str) -> float:
        words = _WORD.findall(text)
        told = (single_meteor_score(_WORD.findall(one), words, wordnet=synonyms) for one in texts)
        return float(max(told, default=0.0))

    note = "equal words and stems, no WordNet synonyms"
    return None if variant else Metric(_by_case(best), mean, note=note)


class _NoSynonyms:
    """Stands where NLTK asks WordNet."""

    def synsets(self, _word: str) -> list[Any]:
        return []


def _by_case(best: Callable[[Sequence[str], str], float]) -> Callable[[Sequence[Outcome]], Scores]:
    def scores(outcomes: Sequence[Outcome]) -> Scores:
        return stacked([[best(one.case.wanted, one.found[TEXT])] for one in outcomes], 1)

    return scores
