"""Rows from every kind of file: what is read, and what is refused with the line it stands on."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from eval_kit import lines
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from task_bundles import classifier, colours, decoder, listener, say, tagger
from tiny_model import make_tiny_bundle

from edgeward.errors import UsageError
from edgeward.runtimes.bundle.read import Bundle
from edgeward.targets.evaluation.cases import Settings, Work
from edgeward.targets.evaluation.table import read_table
from edgeward.targets.evaluation.tasks.entities import spans_of
from edgeward.targets.evaluation.tasks.registry import open_work
from edgeward.targets.evaluation.tasks.writing import label_in, windows

TABLE = {"gate": [0.0, 2.0], "train": [2.0, 0.0]}
CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r"), max_size=9)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Bundle]:
    folder = tmp_path_factory.mktemp("bundles")
    return {
        "texts": classifier(folder / "texts", TABLE, ("stay", "go")),
        "numbers": classifier(
            folder / "numbers", {"gate": [1.0]}, ("one",), problem_type="regression"
        ),
        "tags": tagger(folder / "tags", {"gate": [0.0, 9.0]}, ("O", "B-PLACE")),
        "pictures": colours(folder / "pictures"),
        "sounds": listener(folder / "sounds"),
        "vectors": make_tiny_bundle(folder / "vectors"),
        "writes": decoder(folder / "writes"),
    }


def read(bundle: Bundle, path: Path, **columns: str) -> Work:
    return open_work(bundle, read_table(path), Settings(columns))


def refused(bundle: Bundle, path: Path, **columns: str) -> str:
    with pytest.raises(UsageError) as caught:
        read(bundle, path, **columns)
    return str(caught.value)


@given(rows=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=6))
def test_what_csv_writes_is_read_back(tmp_path_factory: Any, rows: list[tuple[str, str]]) -> None:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([("text", "label"), *rows])
    path = tmp_path_factory.mktemp("csv") / "data.csv"
    path.write_bytes(buffer.getvalue().encode())
    table = read_table(path)
    assert [tuple(row.values.values()) for row in table.rows] == rows
    first, expected = 2, []
    for row in rows:
        expected.append(first)
        first += 1 + sum(cell.count("\n") for cell in row)
    assert [row.line for row in table.rows] == expected


def test_one_set_in_three_forms_is_the_same(bundles: Mapping[str, Bundle], tmp_path: Path) -> None:
    rows = [{"text": "the gate", "label": "go"}, {"text": 'a "train", now', "label": "stay"}]
    lines(tmp_path / "a.jsonl", rows)
    with (tmp_path / "b.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label"])
        writer.writeheader()
        writer.writerows(rows)
    told = '\ufefftext\tlabel\r\nthe gate\tgo\r\na "train", now\tstay\r\n'
    (tmp_path / "c.tsv").write_text(told, encoding="utf-8", newline="")
    works = [read(bundles["texts"], tmp_path / name) for name in ("a.jsonl", "b.csv", "c.tsv")]
    cases = [[(case.given, case.wanted) for case in work.cases] for work in works]
    assert cases[0] == cases[1] == cases[2]
    assert cases[0][1] == ({"text": 'a "train", now'}, "stay")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", '{"text": "gate", "label": "go"}\n\n{"text": \n', "line 3: no JSON"),
        ("a.jsonl", '["gate"]\n', "line 1: a JSON object is wanted, not list"),
        ("a.jsonl", '{"text": 5, "label": "go"}\n', "line 1: text is 5, a text is wanted"),
        ("a.jsonl", '{"text": " ", "label": "go"}\n', "line 1: text is empty"),
        ("a.jsonl", '{"text": "gate", "label": "go"}\n{"text": "gate"}\n', "line 2: label is miss"),
        ("a.jsonl", '{"text": "gate", "label": "walk"}\n', "line 1: the model has no class 'walk'"),
        ("a.jsonl", '{"text": "\\ud800", "label": "go"}\n', "line 1: text holds half a character"),
        ("a.csv", "text,label\ngate,go\ngate\n", "line 3: 1 cells, the header has 2"),
        ("a.csv", 'text,label\n"gate"x,go\n', "line 2 cannot be read"),
        ("a.csv", "text,text\ngate,go\n", "line 1 is no header"),
        ("a.csv", "text,label\n", "has no rows"),
        ("a.csv", "words,kind\ngate,go\n", "no column for text"),
        ("a.txt", "gate\n", "no data that is known"),
    ],
)
def test_a_bad_row_is_told_with_its_line(
    bundles: Mapping[str, Bundle], tmp_path: Path, name: str, content: str, words: str
) -> None:
    (tmp_path / name).write_text(content)
    assert words in refused(bundles["texts"], tmp_path / name)


def test_several_bad_rows_are_told_at_once(bundles: Mapping[str, Bundle], tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [{"text": "gate", "label": "x"}] * 7)
    said = refused(bundles["texts"], path)
    assert "7 rows cannot be used" in said
    assert "line 5" in said
    assert "line 6" not in said
    assert "and 2 more" in said


def test_bytes_that_are_no_text_are_told(bundles: Mapping[str, Bundle], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"text,label\ngate,go\n\xff,go\n")
    assert "line 3 is not UTF-8" in refused(bundles["texts"], tmp_path / "a.csv")


def test_columns_may_have_other_names(bundles: Mapping[str, Bundle], tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [{"review": "gate", "stars": 1}])
    work = read(bundles["texts"], path, text="review", label="stars")
    assert [(case.given["text"], case.wanted) for case in work.cases] == [("gate", "go")]
    assert "no column 'x'" in refused(bundles["texts"], path, text="x")
    assert "knows no 'body'" in refused(bundles["texts"], path, body="review")


def test_regressions_want_numbers(bundles: Mapping[str, Bundle], tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [{"text": "gate", "label": "2.5"}])
    assert read(bundles["numbers"], path).cases[0].wanted == 2.5
    path = lines(tmp_path / "a.jsonl", [{"text": "gate", "label": float("nan")}])
    assert "line 1: label is nan, a number is wanted" in refused(bundles["numbers"], path)


def test_tags_of_tokens_are_spans() -> None:
    tokens = ["gate", "B12", "at", "noon", "gate", "C1"]
    tags = ["B-PLACE", "I-PLACE", "O", "I-TIME", "B-PLACE", "B-PLACE"]
    text = " ".join(tokens)
    spans = spans_of(tokens, tags)
    assert [(text[start:end], label) for start, end, label in spans] == [
        ("gate B12", "PLACE"), ("noon", "TIME"), ("gate", "PLACE"), ("C1", "PLACE"),
    ]  # fmt: skip


def test_entities_are_read_both_ways(bundles: Mapping[str, Bundle], tmp_path: Path) -> None:
    tagged = lines(tmp_path / "a.jsonl", [{"tokens": ["the", "gate"], "ner_tags": [0, 1]}])
    spans = [{"start": 4, "end": 8, "label": "PLACE"}]
    stated = lines(tmp_path / "b.jsonl", [{"text": "the gate", "entities": spans}])
    one, other = read(bundles["tags"], tagged), read(bundles["tags"], stated)
    assert one.cases[0].wanted == other.cases[0].wanted == ((4, 8, "PLACE"),)
    spans[0]["end"] = 9
    outside = lines(tmp_path / "b.jsonl", [{"text": "the gate", "entities": spans}])
    assert "inside the text" in refused(bundles["tags"], outside)


def test_a_folder_of_pictures_has_its_classes(
    bundles: Mapping[str, Bundle], tmp_path: Path
) -> None:
    for label, colour in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        (tmp_path / "set" / label).mkdir(parents=True)
        Image.new("RGB", (9, 9), colour).save(tmp_path / "set" / label / "one.png")
    work = read(bundles["pictures"], tmp_path / "set")
    assert [case.wanted for case in work.cases] == ["blue", "red"]
    (tmp_path / "set" / "mauve").mkdir()
    (tmp_path / "set" / "mauve" / "x.png").write_bytes(b"")
    assert "no class 'mauve'" in refused(bundles["pictures"], tmp_path / "set")


def test_files_outside_of_the_folder_are_not_read(
    bundles: Mapping[str, Bundle], tmp_path: Path
) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "one.png")
    (tmp_path / "set").mkdir()
    for name in ("../one.png", str(tmp_path / "one.png"), "none.png", "a\0b"):
        path = lines(tmp_path / "set" / "a.jsonl", [{"image": name, "label": "red"}])
        assert "line 1: image: no file" in refused(bundles["pictures"], path)


def test_a_folder_of_sounds_has_transcripts_beside(
    bundles: Mapping[str, Bundle], tmp_path: Path
) -> None:
    say(tmp_path / "one.wav", "abc")
    assert "no column for transcript" in refused(bundles["sounds"], tmp_path)
    (tmp_path / "one.txt").write_text("a b c\n")
    (case,) = read(bundles["sounds"], tmp_path).cases
    assert case.wanted == ("a b c",)


def test_queries_know_their_documents(bundles: Mapping[str, Bundle], tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"query": "where", "document": "gate b12"},
        {"query": "when", "document": "noon"},
        {"document": "the train"},
        {"query": "which", "document": "gate b12"},
    ]
    work = read(bundles["vectors"], lines(tmp_path / "a.jsonl", rows))
    assert [case.wanted for case in work.cases] == [(0,), (1,), (0,)]
    named = [
        {"id": "n1", "document": "gate"},
        {"id": "n2", "document": "noon"},
        {"query": "where", "relevant": ["n2", "n1"]},
    ]
    assert read(bundles["vectors"], lines(tmp_path / "b.jsonl", named)).cases[0].wanted == (0, 1)
    named[2]["relevant"] = ["n3"]
    said = refused(bundles["vectors"], lines(tmp_path / "b.jsonl", named))
    assert "line 3: no document 'n3'" in said


def test_prompts_want_what_stands_beside_them(
    bundles: Mapping[str, Bundle], tmp_path: Path
) -> None:
    def kind(row: Mapping[str, Any]) -> str:
        return read(bundles["writes"], lines(tmp_path / "a.jsonl", [row])).kind

    messages = [{"role": "user", "content": "where"}]
    assert kind({"prompt": "where", "reference": ["here", "there"]}) == "text"
    assert kind({"messages": messages, "label": "yes"}) == "label"
    assert kind({"text": "a text alone"}) == "nats"
    wrong = lines(tmp_path / "b.jsonl", [{"messages": [5], "reference": "x"}])
    assert "line 1: messages" in refused(bundles["writes"], wrong)


def test_an_answer_is_the_label_that_it_names() -> None:
    labels = ["positive", "negative"]
    assert label_in("Positive.", labels) == "positive"
    assert label_in("It is negative, I think", labels) == "negative"
    assert label_in("positive or negative", labels) == "(none)"
    assert label_in("unpositively", labels) == "(none)"


@given(st.integers(0, 400), st.integers(2, 50))
def test_windows_tell_each_token_once(tokens: int, limit: int) -> None:
    told: list[int] = []
    for start, first, end in windows(tokens, limit):
        assert 0 < end - start <= limit
        assert first - start >= min(limit // 2, first)
        told += range(first, end)
    assert told == list(range(1, tokens))


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    one = lines(tmp_path / "a.jsonl", [{"text": "x"}])
    other = lines(tmp_path / "b.jsonl", [{"text": "x"}])
    assert read_table(one).sha256 == read_table(other).sha256
    other.write_text(json.dumps({"text": "y"}))
    assert read_table(one).sha256 != read_table(other).sha256
