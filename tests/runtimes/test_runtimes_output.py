"""Rows written as a table, JSON, JSON lines and CSV."""

from __future__ import annotations

import csv
import io
import json
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeward.runtimes.output import FORMS, cell, print_json, print_rows, render_rows

ROWS: list[dict[str, object]] = [
    {"name": "a", "size": 5, "ratio": 0.123456, "tags": ["x", "y"], "extra": "hidden"},
    {"name": "long-name", "size": None, "ratio": float("nan"), "ok": True},
]
COLUMNS = ["name", "size", "ratio", "tags", "ok"]
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
ANY_ROWS = st.lists(st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES), max_size=6)


def test_json_is_strict_and_has_only_the_columns() -> None:
    document = json.loads(render_rows(ROWS, COLUMNS, "json"), parse_constant=pytest.fail)
    assert [list(row) for row in document] == [COLUMNS, COLUMNS]
    assert document[1]["ratio"] is None
    assert document[0]["ratio"] == 0.123456


def test_plain_table_aligns_and_keeps_everything() -> None:
    long = {"name": "n" * 500, "size": 12345}
    lines = render_rows([{"name": "a", "size": 5}, long], ["name", "size"], "table").splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[2] == "n" * 500 + "  12345"
    assert lines[1].endswith(" " * 6 + "5")


def test_only_a_table_cuts_digests_short() -> None:
    digest = "ab" * 32
    rows = [{"bundle": digest, "name": digest[:-1] + "x"}]
    table = render_rows(rows, ["bundle", "name"], "table").splitlines()[1]
    assert table.split() == [digest[:12], digest[:-1] + "x"]
    assert digest in render_rows(rows, ["bundle"], "csv")
    assert digest in render_rows(rows, ["bundle"], "json")


def test_wide_letters_are_aligned_by_cells() -> None:
    text = render_rows([{"a": "東京", "b": "x"}, {"a": "abcd", "b": "y"}], ["a", "b"], "table")
    assert text.splitlines()[1:] == ["東京  x", "abcd  y"]


@pytest.mark.parametrize("hostile", ["\x1b[2J", "a\nb", "\u202e", "\x00", "\ud800"])
def test_a_cell_cannot_drive_the_terminal(hostile: str) -> None:
    assert cell(hostile).isprintable()
    assert cell(hostile) != ""


def test_unknown_form_is_refused() -> None:
    with pytest.raises(ValueError, match="yaml"):
        render_rows(ROWS, COLUMNS, "yaml")


def test_print_rows_writes_stdout_only(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(ROWS, COLUMNS, "csv")
    print_json({"x": float("inf")})
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("name,size,ratio,tags,ok\na,5,0.123456,")
    assert out.endswith('{\n  "x": null\n}\n')


def test_a_terminal_gets_a_rich_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    print_rows([{"name": "[red]x[/red]"}], ["name"], "table")
    out = capsys.readouterr().out
    assert "[red]x[/red]" in out
    assert "─" in out


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ANY_ROWS)
def test_every_form_has_one_entry_a_row(rows: list[dict[str, object]]) -> None:
    columns = ["a", "b", "c"]
    assert len(json.loads(render_rows(rows, columns, "json"))) == len(rows)
    jsonl = render_rows(rows, columns, "jsonl")
    assert len([json.loads(line) for line in jsonl.split("\n")[:-1]]) == len(rows)
    read = list(csv.DictReader(io.StringIO(render_rows(rows, columns, "csv"))))
    assert len(read) == len(rows)
    assert render_rows(rows, columns, "table").count("\n") == len(rows) + 1
    assert set(FORMS) == {"table", "json", "jsonl", "csv"}
