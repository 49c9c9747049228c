"""Every metric against figures from elsewhere: published examples, or counting done here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from eval_kit import outcomes, value
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgeward.errors import UsageError
from edgeward.runtimes.proof.words import letter_error_rate, word_error_rate
from edgeward.targets.evaluation.cases import BOXES, LABEL, NATS, NUMBER, PLACES, SPANS, TEXT
from edgeward.targets.evaluation.metrics.classes import matrix
from edgeward.targets.evaluation.metrics.registry import METRICS, VARIANTS, make_metric

LABELS = st.sampled_from(["go", "stay", "turn"])
PAIRS = st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=30)
NUMBERS = st.floats(-100, 100, allow_nan=False)
WORDS = st.lists(st.sampled_from(["the", "cat", "sat", "on", "mat", "down"]), max_size=9)
TEXTS = WORDS.map(" ".join)


def by_class(pairs: Sequence[tuple[str, str]]) -> dict[str, tuple[float, float, float]]:
    """Precision, recall and F1 of each class, counted one by one."""
    told = {}
    for label in {label for pair in pairs for label in pair}:
        right = sum(pair == (label, label) for pair in pairs)
        found = sum(given == label for _, given in pairs)
        wanted = sum(wanted == label for wanted, _ in pairs)
        precision, recall = right / found if found else 0.0, right / wanted if wanted else 0.0
        both = precision + recall
        told[label] = (precision, recall, 2 * precision * recall / both if both else 0.0)
    return told


@given(PAIRS)
@settings(max_examples=30, deadline=None)
def test_classes_are_counted_as_by_hand(pairs: list[tuple[str, str]]) -> None:
    each = by_class(pairs)
    support = Counter(wanted for wanted, _ in pairs)
    right = sum(wanted == found for wanted, found in pairs) / len(pairs)
    assert value("accuracy", LABEL, pairs) == pytest.approx(right)
    for column, name in enumerate(("precision", "recall", "f1")):
        macro = sum(row[column] for row in each.values()) / len(each)
        weighted = sum(each[label][column] * n for label, n in support.items()) / len(pairs)
        assert value(name, LABEL, pairs) == pytest.approx(macro)
        assert value(f"{name}-micro", LABEL, pairs) == pytest.approx(right)
        assert value(f"{name}-weighted", LABEL, pairs) == pytest.approx(weighted)
        metric = make_metric(name, LABEL)
        parts = metric.parts(metric.scores(outcomes(LABEL, pairs)))
        assert parts == pytest.approx({label: row[column] for label, row in each.items()})


@given(
    PAIRS,
    st.sampled_from(
        [f"{n}-{a}" for n in ("precision", "recall", "f1") for a in ("macro", "micro", "weighted")]
    ),
)
@settings(max_examples=40, deadline=None)
def test_draws_are_counted_as_the_library_counts(pairs: list[tuple[str, str]], name: str) -> None:
    metric = make_metric(name, LABEL)
    rows = metric.scores(outcomes(LABEL, pairs)).rows
    assert metric.again is not None
    assert metric.again(rows) == pytest.approx(metric.value(rows))


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=3, max_size=20))
@example([(0.0, 0.0), (0.0, 0.0), (1.0, 5.5e-176)])  # told apart, though the variance is 0
@example([(0.0, 0.0), (0.0, 0.0), (1e-160, 1.0)])
@settings(max_examples=40, deadline=None)
def test_numbers_are_told_as_by_hand(pairs: list[tuple[float, float]]) -> None:
    wanted, found = np.array(pairs).T
    assert value("mae", NUMBER, pairs) == pytest.approx(np.abs(wanted - found).mean())
    for name in ("mae", "r2", "spearman"):
        metric = make_metric(name, NUMBER)
        rows = metric.scores(outcomes(NUMBER, pairs)).rows
        assert metric.again is not None
        told, again = metric.value(rows), metric.again(rows)
        assert again == pytest.approx(told, rel=1e-6, abs=1e-9, nan_ok=True)


def test_numbers_against_textbook_values() -> None:
    r2 = [(3.0, 2.5), (-0.5, 0.0), (2.0, 2.0), (7.0, 8.0)]  # scikit-learn, r2_score's example
    assert value("r2", NUMBER, r2) == pytest.approx(0.9486, abs=1e-4)
    # 1 - 6 sum(d^2) / (n (n^2 - 1)), for ranks without ties: d = 0, 1, -1, 0, 0
    ranks = [(1.0, 10.0), (2.0, 30.0), (3.0, 20.0), (4.0, 40.0), (5.0, 90.0)]
    assert value("spearman", NUMBER, ranks) == pytest.approx(1 - 6 * 2 / (5 * 24))
    assert math.isnan(value("spearman", NUMBER, [(1.0, 1.0), (1.0, 2.0)]))


def test_the_confusion_matrix_says_what_was_taken_for_what() -> None:
    pairs = [("go", "go"), ("go", "stay"), ("stay", "stay"), ("go", "go")]
    metric = make_metric("confusion", LABEL)
    scores = metric.scores(outcomes(LABEL, pairs))
    assert scores.names == ("go", "stay")
    assert matrix(scores) == [[2, 1], [0, 1]]
    assert metric.parts(scores) == {"go -> go": 2, "go -> stay": 1, "stay -> stay": 1}


def test_bleu_is_papineni_s() -> None:
    # Papineni et al. 2002, example 2: the modified unigram precision is 2 of 7.
    metric = make_metric("bleu", TEXT)
    references = ("the cat is on the mat", "there is a cat on the mat")
    pairs = [(references, "the the the the the the the")]
    rows = metric.scores(outcomes(TEXT, pairs)).rows
    assert (rows[0, 0], rows[0, 4]) == (2, 7)
    # Counted by hand: 5/6, 3/5, 2/4, 1/3 and no penalty.
    text = "the cat sat on the mat"
    told = value("bleu", TEXT, [(("the cat sits on the mat",), text)])
    assert told == pytest.approx(100 * (5 / 6 * 3 / 5 * 1 / 4 * (1 / 2 / 3)) ** 0.25)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
@settings(max_examples=20, deadline=None)
def test_bleu_of_cases_is_that_of_their_corpus(pairs: list[tuple[str, str]]) -> None:
    from sacrebleu.metrics import BLEU

    corpus = BLEU().corpus_score([found for _, found in pairs], [[wanted for wanted, _ in pairs]])
    told = value("bleu", TEXT, [((wanted,), found) for wanted, found in pairs])
    assert told == pytest.approx(corpus.score)


def test_rouge_is_lin_s() -> None:
    # Lin 2004, section 3.1; "kill" is "end" here, for stems are equal.
    reference = ("police killed the gunman",)
    assert value("rouge", TEXT, [(reference, "police kill the gunman")]) == pytest.approx(1.0)
    assert value("rouge-l", TEXT, [(reference, "police end the gunman")]) == pytest.approx(0.75)
    assert value("rouge-l", TEXT, [(reference, "the gunman end police")]) == pytest.approx(0.5)
    assert value("rouge-2", TEXT, [(reference, "police end the gunman")]) == pytest.approx(1 / 3)
    assert value("rouge-1", TEXT, [(reference, "the gunman end police")]) == pytest.approx(0.75)


def test_meteor_has_nltk_s_published_value_where_no_synonym_counts() -> None:
    # The first is the example of nothing in common in NLTK's documentation.
    assert value("meteor", TEXT, [(("this is a cat",), "non matching hypothesis")]) == 0
    same = value("meteor", TEXT, [(("the cat sat on the mat",), "the cat sat on the mat")])
    assert same == pytest.approx(1 - 0.5 * (1 / 6) ** 3)
    # Banerjee and Lavie 2005: precision 1, recall 5/6, F = 10PR / (R + 9P), 2 chunks of 5.
    pairs = [(("the cat sat on the mat",), "the cats sat the mat")]
    mean = 1 * (5 / 6) / (0.9 * 1 + 0.1 * 5 / 6)
    assert value("meteor", TEXT, pairs) == pytest.approx(mean * (1 - 0.5 * (2 / 5) ** 3))


@given(st.lists(st.tuples(TEXTS.filter(bool), TEXTS), min_size=1, max_size=5))
@settings(max_examples=30, deadline=None)
def test_word_errors_are_the_proof_s_own(pairs: list[tuple[str, str]]) -> None:
    wanted, found = [one for one, _ in pairs], [other for _, other in pairs]
    told = [((one,), other) for one, other in pairs]
    assert value("wer", TEXT, told) == pytest.approx(word_error_rate(wanted, found))
    assert value("cer", TEXT, told) == pytest.approx(letter_error_rate(wanted, found))


def test_word_errors_leave_case_and_punctuation_out_unless_they_are_wanted() -> None:
    pairs = [(("The fox, it jumps.",), "the fox it jumped")]
    assert value("wer", TEXT, pairs) == pytest.approx(1 / 4)
    assert value("wer-exact", TEXT, pairs) == pytest.approx(3 / 4)
    assert value("cer-exact", TEXT, [(("abcd",), "abd")]) == pytest.approx(1 / 4)


def test_answers_are_equal_as_squad_has_it() -> None:
    pairs = [(("The  Gate!", "door"), "gate"), (("B12",), "b 12")]
    assert value("exact-match", TEXT, pairs) == 0.5
    assert value("exact-match-strict", TEXT, [(("b12",), "b12"), (("B12",), "b12")]) == 0.5
    # 2 common words, 3 of the answer and 2 of the reference.
    assert value("token-f1", TEXT, [(("gate B12", "x"), "the gate b12 here")]) == pytest.approx(0.8)


def test_entities_count_whole() -> None:
    wanted = ((0, 4, "PLACE"), (10, 14, "TIME"))
    found = [[0, 4, "PLACE"], [10, 13, "TIME"], [20, 22, "PLACE"]]
    pairs = [(wanted, found), ((), [])]
    assert value("precision", SPANS, pairs) == pytest.approx(1 / 3)
    assert value("recall", SPANS, pairs) == pytest.approx(1 / 2)
    assert value("f1", SPANS, pairs) == pytest.approx(2 * 1 / 5)
    assert value("f1-macro", SPANS, pairs) == pytest.approx((2 / 3 + 0) / 2)


def test_places_tell_what_was_found_how_early() -> None:
    pairs: list[tuple[Any, Any]] = [((3,), [1, 3, 2]), ((1, 2), [2, 0, 1]), ((0,), [5, 6, 7])]
    assert value("recall@1", PLACES, pairs) == pytest.approx((0 + 0.5 + 0) / 3)
    assert value("recall@3", PLACES, pairs) == pytest.approx((1 + 1 + 0) / 3)
    assert value("mrr", PLACES, pairs) == pytest.approx((1 / 2 + 1 + 0) / 3)


def test_perplexity_weighs_tokens_not_texts() -> None:
    pairs = [(None, math.log(4) * 3), (None, math.log(2))]
    told = value("perplexity", NATS, pairs, tokens=[3, 1])
    assert told == pytest.approx((4**3 * 2) ** (1 / 4))


def test_every_metric_that_is_listed_is_made() -> None:
    for kind, known in METRICS.items():
        for name in known:
            variant = f"{name}@5" if (kind, name) == (PLACES, "recall") else name
            assert make_metric(variant, kind).better in ("higher", "lower")
    kinds = {"f1": LABEL, "recall": PLACES, "map": BOXES}
    for name in VARIANTS:
        make_metric(name, kinds.get(name.partition("-")[0].partition("@")[0], TEXT))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("bleu", LABEL), ("f1-best", LABEL), ("recall", PLACES), ("recall@0", PLACES),
     ("rouge-9", TEXT), ("accuracy-x", LABEL), ("", TEXT)],
)  # fmt: skip
def test_a_metric_that_is_none_is_refused(name: str, kind: str) -> None:
    with pytest.raises(UsageError, match="no metric"):
        make_metric(name, kind)
