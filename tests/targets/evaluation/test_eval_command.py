"""`edgeward eval` as it is typed: every task, every form, gates, JUnit, comparison, predictions."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from eval_kit import edgeward_eval, lines
from PIL import Image
from task_bundles import answerer, classifier, colours, decoder, listener, say, tagger
from tiny_decoder import byte_tokenizer
from tiny_model import make_tiny_bundle, tiny_cases, tiny_weights

from edgeward.errors import UsageError
from edgeward.runtimes.bundle.read import Bundle
from edgeward.runtimes.session import load
from edgeward.targets.evaluation.cases import Settings
from edgeward.targets.evaluation.evaluate import Asked, Evaluation, evaluate
from edgeward.targets.evaluation.gate import read_gates

TABLE = {"gate": [0.0, 2.0], "train": [2.0, 0.0], "noon": [0.0, 1.0]}
WRONG = {**TABLE, "noon": [1.0, 0.0]}
ROWS = [
    {"text": "the gate", "label": "go"},
    {"text": "train leaves", "label": "stay"},
    {"text": "noon", "label": "go"},
    {"text": "the train noon", "label": "go"},
]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return classifier(tmp_path_factory.mktemp("texts") / "texts", TABLE, ("stay", "go"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return lines(tmp_path / "data.jsonl", ROWS)


def told(bundle: Bundle, path: Path, against: Bundle | None = None, **asked: Any) -> Evaluation:
    asked = {"resamples": 50, "threads": 1, **asked}
    other = None if against is None else against.path
    return evaluate(bundle.path, path, Asked(**asked), other, lambda *_: None)


def figures(evaluation: Evaluation) -> dict[str, float]:
    return {figure.name: figure.value for figure in evaluation.figures}


def test_the_command_tells_the_same_in_every_form(texts: Bundle, data: Path) -> None:
    said = {
        form: edgeward_eval(texts.path, "--data", data, "-m", "accuracy,confusion", "-o", form)
        for form in ("table", "json", "csv")
    }
    assert {one.returncode for one in said.values()} == {0}, said["table"].stderr
    document = json.loads(said["json"].stdout)
    assert document["cases"] == 4
    assert [figure["value"] for figure in document["figures"]] == [0.75, 0.75]
    assert document["confusion"] == {"labels": ["go", "stay"], "counts": [[2, 1], [0, 1]]}
    rows = list(csv.DictReader(io.StringIO(said["csv"].stdout)))
    assert [float(row["value"]) for row in rows] == [0.75, 0.75]
    assert "accuracy" in said["table"].stdout
    assert "wanted  go  stay" in said["table"].stdout


def test_a_missed_gate_is_exit_code_3_and_a_failure_for_ci(
    texts: Bundle, data: Path, tmp_path: Path
) -> None:
    junit = tmp_path / "junit.xml"
    gates = ("--fail-under", "accuracy=0.9,f1[stay]=0.5", "--junit", junit, "-o", "md")
    done = edgeward_eval(texts.path, "--data", data, "-m", "accuracy", *gates)
    assert done.returncode == 3, done.stderr
    assert "accuracy 0.75 is not >= 0.9" in done.stderr
    assert "| accuracy | 0.75 |" in done.stdout
    root = ElementTree.parse(junit).getroot()  # noqa: S314
    suite = root.find("testsuite")
    assert suite is not None
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert failed == ["accuracy"]
    assert {case.get("name") for case in suite} >= {"accuracy", "f1", "f1[stay]"}
    assert (suite.get("tests"), suite.get("failures")) == (str(len(suite)), "1")


def test_a_gate_that_is_kept_passes(texts: Bundle, data: Path) -> None:
    found = told(texts, data, gates=read_gates(["accuracy=0.75"], []), metrics=["accuracy"])
    assert found.missed == ()
    assert found.figures[0].passed is True


@pytest.mark.parametrize(
    ("under", "over", "words"),
    [
        ("accuracy", "", "takes METRIC=NUMBER"),
        ("accuracy=nan", "", "takes METRIC=NUMBER"),
        ("accuracy=0.1,accuracy=0.2", "", "same gate twice"),
        ("", "accuracy=0.9", "would fail what is good"),
        ("blue=1", "", "no metric 'blue'"),
        ("check:json=1", "", "which is not told"),
    ],
)
def test_a_gate_that_makes_no_sense_is_refused(
    texts: Bundle, data: Path, under: str, over: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        told(
            texts,
            data,
            gates=read_gates(under.split(",") if under else [], over.split(",") if over else []),
        )


def test_nothing_runs_before_the_data_is_right(texts: Bundle, tmp_path: Path) -> None:
    path = lines(tmp_path / "bad.jsonl", [*ROWS, {"text": "gate"}])
    kept = tmp_path / "kept.jsonl"
    done = edgeward_eval(texts.path, "--data", path, "--predictions", kept)
    assert done.returncode == 2
    assert "line 5: label is missing" in done.stderr
    assert not kept.exists()


def test_another_bundle_is_compared_on_the_same_cases(
    texts: Bundle, data: Path, tmp_path: Path
) -> None:
    other = classifier(tmp_path / "other", WRONG, ("stay", "go"))
    found = told(texts, data, other, metrics=["accuracy", "f1"])
    accuracy, f1 = found.figures[0], found.figures[1]
    assert (accuracy.value, accuracy.other) == (0.75, 0.5)
    assert accuracy.difference is not None
    assert f1.difference is not None
    assert accuracy.difference.value == 0.25
    assert (accuracy.difference.p, accuracy.difference.test) == (1.0, "mcnemar exact")
    assert f1.difference.test == "paired bootstrap"
    same = told(texts, data, texts, metrics=["accuracy", "f1"])
    assert [f.difference.p for f in same.figures if f.difference] == [1.0, 1.0]


def test_bundles_of_different_tasks_are_not_compared(
    texts: Bundle, data: Path, tmp_path: Path
) -> None:
    other = make_tiny_bundle(tmp_path / "vectors")
    with pytest.raises(UsageError, match="different tasks"):
        told(texts, data, other)


def test_predictions_are_kept_and_gone_on_with(texts: Bundle, data: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.jsonl"
    first = figures(told(texts, data, predictions=kept))
    content = kept.read_text().splitlines()
    assert [json.loads(line)["found"]["label"] for line in content[1:]] == [
        "go", "stay", "go", "stay",
    ]  # fmt: skip
    # What stands there is not asked again: a kept answer that is changed changes the figure.
    changed = content[4].replace('"label": "stay"', '"label": "go"')
    kept.write_text(
        "\n".join([*content[:2], content[4].replace('"line": 4', '"line": 2'), "{torn"])
    )
    again = told(texts, data, predictions=kept)
    assert figures(again) == first
    kept.write_text("\n".join([*content[:4], changed]) + "\n")
    assert figures(told(texts, data, predictions=kept))["accuracy"] == 1.0
    other = lines(tmp_path / "other.jsonl", ROWS[:2])
    with pytest.raises(UsageError, match="no predictions of this run"):
        told(texts, other, predictions=kept)
    kept.write_text("\n".join([content[0], content[3]]) + "\n")
    with pytest.raises(UsageError, match="damaged"):
        told(texts, data, predictions=kept)


def test_entities_are_found_and_counted(tmp_path: Path) -> None:
    table = {"gate": [0.0, 9.0, 0.0], "b12": [0.0, 0.0, 9.0], "where": [9.0, 0.0, 0.0]}
    rows = {**table, "is": [9.0, 0.0, 0.0]}
    bundle = tagger(tmp_path / "tags", rows, ("O", "B-PLACE", "I-PLACE"))
    cases = [
        {"tokens": ["where", "is", "gate", "b12"], "tags": ["O", "O", "B-PLACE", "I-PLACE"]},
        {"tokens": ["where", "is", "gate", "b12"], "tags": ["O", "O", "B-PLACE", "O"]},
    ]
    found = figures(told(bundle, lines(tmp_path / "a.jsonl", cases)))
    assert (found["precision"], found["recall"], found["f1"]) == (0.5, 0.5, 0.5)


def test_questions_are_answered_and_held_against_answers(tmp_path: Path) -> None:
    bundle = answerer(tmp_path / "qa", "gate", "b12")
    row = {"question": "where", "context": "the train leaves gate b12 at noon"}
    rows = [{**row, "answers": {"text": ["Gate B12"]}}, {**row, "answers": ["gate"]}]
    found = figures(told(bundle, lines(tmp_path / "a.jsonl", rows)))
    assert found == {"exact-match": 0.5, "token-f1": pytest.approx((1 + 2 / 3) / 2)}


def test_pictures_are_seen(tmp_path: Path) -> None:
    for label, colour in (("red", (255, 0, 0)), ("blue", (0, 0, 255)), ("green", (200, 0, 0))):
        (tmp_path / "set" / label).mkdir(parents=True)
        Image.new("RGB", (9, 9), colour).save(tmp_path / "set" / label / "one.png")
    found = figures(told(colours(tmp_path / "colours"), tmp_path / "set"))
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["recall[green]"] == 0


def test_sounds_are_heard(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name, said, text in (("one", "ab c", "ab c"), ("two", "abc ab", "abc abb")):
        say(tmp_path / "set" / f"{name}.wav", said)
        (tmp_path / "set" / f"{name}.txt").write_text(text)
    found = figures(told(listener(tmp_path / "ctc"), tmp_path / "set"))
    assert found == {"wer": 1 / 4, "cer": 1 / 11}


def test_pairs_are_ranked_as_their_vectors_are(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "vectors")
    vectors = tiny_cases(tiny_weights()).vectors
    given = ("gate", "where is gate b12", "the train leaves at noon")
    likeness = [float(vectors[1] @ vectors[place]) for place in (1, 2, 3)]
    rows = [
        {"sentence1": "gate", "sentence2": text, "score": score}
        for text, score in zip(given, likeness, strict=True)
    ]
    path = lines(tmp_path / "a.jsonl", rows)
    assert figures(told(bundle, path))["spearman"] == pytest.approx(1.0)
    rows[0]["score"], rows[1]["score"] = rows[1]["score"], rows[0]["score"]
    assert figures(told(bundle, lines(path, rows)))["spearman"] < 1


def test_queries_find_their_documents(tmp_path: Path) -> None:
    rows = [
        {"query": "where is gate b12", "document": "where is gate b12"},
        {"query": "noon", "document": "the train leaves at noon"},
        {"document": "gate"},
    ]
    bundle = make_tiny_bundle(tmp_path / "vectors")
    found = figures(told(bundle, lines(tmp_path / "a.jsonl", rows), metrics=["recall@1", "mrr"]))
    with load(bundle, threads=1) as session:
        vectors = session.embed([row["document"] for row in rows])
        queries = session.embed([rows[0]["query"], rows[1]["query"]])
    ranks = [int((vectors @ query > vectors[n] @ query).sum()) for n, query in enumerate(queries)]
    assert found["recall@1"] == pytest.approx(np.mean([rank == 0 for rank in ranks]))
    assert found["mrr"] == pytest.approx(np.mean([1 / (rank + 1) for rank in ranks]))


def test_what_is_written_is_held_against_references(tmp_path: Path) -> None:
    bundle = decoder(tmp_path / "writes")
    with load(bundle, threads=1) as session:
        written = "".join(piece.text for piece in session.generate("abc", max_tokens=5)).strip()
    rows = [{"prompt": "abc", "reference": written}, {"prompt": "abc", "reference": "else"}]
    found = told(
        bundle,
        lines(tmp_path / "a.jsonl", rows),
        metrics=["exact-match-strict"],
        settings=Settings({}, max_tokens=5, raw=True),
    )
    assert figures(found) == {"exact-match-strict": 0.5}


def test_perplexity_is_that_of_the_logits_whatever_the_window(tmp_path: Path) -> None:
    bundle = decoder(tmp_path / "writes")
    text = "where is gate b12"
    ids = byte_tokenizer().encode(text).ids
    with load(bundle, threads=1) as session:
        logits = session.generator.logits(ids).astype(np.float64)
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares = raised / raised.sum(axis=1, keepdims=True)
    nats = -np.log(shares[np.arange(len(ids) - 1), ids[1:]]).sum()
    path = lines(tmp_path / "a.jsonl", [{"text": text}])
    found = figures(told(bundle, path))
    assert math.log(found["perplexity"]) == pytest.approx(nats / (len(ids) - 1))
    short = figures(told(bundle, path, settings=Settings({}, window=4)))
    assert short["perplexity"] != pytest.approx(found["perplexity"])


def test_a_task_without_an_evaluation_is_refused(tmp_path: Path, data: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "depth", changes={"task": "depth-estimation"})
    done = edgeward_eval(bundle.path, "--data", data)
    assert done.returncode == 1
    assert "cannot be evaluated" in done.stderr
    assert "Traceback" not in done.stderr
