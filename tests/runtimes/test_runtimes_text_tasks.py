"""Texts to classes, tags, answers and fillings, over an engine that looks its answers up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import WORDS, tiny_tokenizer
from tokenizers import processors

from edgeward.errors import EngineError, SourceError, UnsupportedError, UsageError
from edgeward.runtimes.bundle.manifest import EngineRef
from edgeward.runtimes.engines.base import Tensor
from edgeward.runtimes.tasks.classification import TextClassifier
from edgeward.runtimes.tasks.fill_mask import MaskFiller
from edgeward.runtimes.tasks.labels import read_labels, sigmoid, softmax
from edgeward.runtimes.tasks.question_answering import Answerer
from edgeward.runtimes.tasks.registry import TASKS, open_task
from edgeward.runtimes.tasks.tagging import TextTagger

TEXT = "where is gate b12"
LABELS = {"0": "O", "1": "B-PLACE", "2": "I-PLACE"}


class LookUp:
    """Logits by token id, or by the text's sum of ids where a text has one row."""

    ref = EngineRef(name="look-up", version="1")
    inputs: Sequence[str] = ("input_ids", "attention_mask")

    def __init__(self, tables: Mapping[str, Any], *, per_text: bool = False) -> None:
        self.outputs: Sequence[str] = tuple(tables)
        self._tables = {name: np.array(table, np.float32) for name, table in tables.items()}
        self._per_text = per_text

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        ids = inputs["input_ids"]
        if self._per_text:
            return {name: table[ids[:, 1] % len(table)] for name, table in self._tables.items()}
        return {name: table[ids] for name, table in self._tables.items()}

    def run_prepared(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        found = self.run(inputs)
        return [found[name] for name in outputs]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer = tiny_tokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.add_special_tokens(["<gap>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    configure(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"pad_token": "[PAD]", "mask_token": "<gap>", "model_max_length": 12})
    )
    return tmp_path


def configure(folder: Path, **more: Any) -> None:
    settings = {"model_type": "bert", "id2label": LABELS, **more}
    (folder / "config.json").write_text(json.dumps(settings))


def one_hot(*rows: int, width: int = 3, height: float = 9.0) -> list[list[float]]:
    return [[height * (column == row) for column in range(width)] for row in rows]


def test_the_best_class_stands_first(folder: Path) -> None:
    classify = TextClassifier(folder, LookUp({"logits": [[0, 2, 1]]}, per_text=True))
    (found,), tokens = classify([TEXT])
    assert [one.label for one in found] == ["B-PLACE", "I-PLACE", "O"]
    assert sum(one.score for one in found) == pytest.approx(1)
    assert tokens == 6
    assert [len(row) for row in classify([TEXT, "gate"], top_k=2)[0]] == [2, 2]
    assert classify([]) == ([], 0)


def test_scores_follow_the_problem(folder: Path) -> None:
    engine = LookUp({"logits": [[0.0, 2.0, -1.0]]}, per_text=True)
    configure(folder, problem_type="multi_label_classification")
    ((first, *_),), _ = TextClassifier(folder, engine)([TEXT])
    assert first.score == pytest.approx(1 / (1 + np.exp(-2)))
    configure(folder, problem_type="regression")
    ((first, *_),), _ = TextClassifier(folder, engine)([TEXT])
    assert first.score == 2.0
    configure(folder)
    single = LookUp({"logits": [[2.0]]}, per_text=True)
    ((only,),), _ = TextClassifier(folder, single)([("a", "b")])
    assert only.score == pytest.approx(1 / (1 + np.exp(-2)))


def test_words_of_one_entity_are_joined(folder: Path) -> None:
    table = one_hot(*[0] * len(WORDS))
    for word, row in (("gate", 1), ("b12", 2), ("noon", 1)):
        table[WORDS.index(word)] = one_hot(row)[0]
    tag = TextTagger(folder, LookUp({"logits": table}))
    (first, second), _ = tag(["where is gate b12", "gate gate b12 at noon"])
    assert [(one.label, one.text, one.start, one.end) for one in first] == [
        ("PLACE", "gate b12", 9, 17)
    ]
    assert [one.text for one in second] == ["gate", "gate b12", "noon"]
    assert all(0.9 < one.score <= 1 for one in [*first, *second])


def test_the_answer_is_a_span_of_the_context(folder: Path) -> None:
    starts, ends = np.zeros(len(WORDS)), np.zeros(len(WORDS))
    starts[WORDS.index("gate")], ends[WORDS.index("b12")] = 9, 9
    starts[WORDS.index("where")] = 20
    answer = Answerer(folder, LookUp({"start_logits": starts, "end_logits": ends}))
    (found, *_), _ = answer("where", "the train is gate b12 noon")
    assert (found.text, found.start, found.end) == ("gate b12", 13, 21)
    long = "the train " * 20 + "gate b12 noon"
    (found, *_), tokens = answer("where", long)
    assert long[found.start : found.end] == found.text == "gate b12"
    assert tokens > 12
    several, _ = answer("where", "gate b12 the gate b12", top_k=2)
    assert [one.text for one in several] == ["gate b12", "gate b12"]
    assert several[0].start != several[1].start


def test_a_gap_is_filled(folder: Path) -> None:
    table = np.zeros((len(WORDS) + 1, len(WORDS) + 1))
    table[len(WORDS), WORDS.index("train")] = 9
    fill = MaskFiller(folder, LookUp({"logits": table}))
    (first, *rest), _ = fill("the [MASK] leaves", top_k=3)
    assert (first.token, first.text) == ("train", "the train leaves")
    assert len(rest) == 2
    with pytest.raises(UsageError, match="2 gaps"):
        fill("the [MASK] [MASK]")
    with pytest.raises(UsageError, match="0 gaps"):
        fill("the train")


@pytest.mark.parametrize(
    "call",
    [
        lambda session: session("text"),
        lambda session: session([3]),
        lambda session: session([("a", "b", "c")]),
        lambda session: session(["\ud800"]),
        lambda session: session([TEXT], top_k=0),
    ],
)
def test_what_is_no_text_is_refused(folder: Path, call: Any) -> None:
    with pytest.raises(UsageError):
        call(TextClassifier(folder, LookUp({"logits": [[1, 2, 3]]}, per_text=True)))


def test_scores_that_are_not_finite_are_refused(folder: Path) -> None:
    classify = TextClassifier(folder, LookUp({"logits": [[np.nan, 1, 2]]}, per_text=True))
    with pytest.raises(EngineError, match="not finite"):
        classify([TEXT])


def test_a_graph_of_another_task_is_refused(folder: Path) -> None:
    with pytest.raises(UnsupportedError, match="no output logits"):
        TextClassifier(folder, LookUp({"hidden": [[1]]}))


@pytest.mark.parametrize("labels", [{"x": "a"}, {"0": 3}, {"-1": "a"}, {"9999999999": "a"}])
def test_labels_that_are_none_are_told(labels: Any) -> None:
    with pytest.raises(SourceError, match="id2label"):
        read_labels({"id2label": labels})


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=9))
def test_scores_are_shares_whatever_the_logits(values: list[float]) -> None:
    logits = np.array([values], np.float32)
    assert softmax(logits).sum() == pytest.approx(1, abs=1e-5)
    assert ((sigmoid(logits) >= 0) & (sigmoid(logits) <= 1)).all()


def test_a_task_without_a_class_of_its_own_opens_nothing(folder: Path) -> None:
    assert open_task("image-feature-extraction", folder, LookUp({"logits": [[1]]})) is None
    assert "feature-extraction" in TASKS
