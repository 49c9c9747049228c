"""Rules that answers keep or break."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from eval_kit import lines
from task_bundles import decoder

from edgeward.errors import UsageError
from edgeward.targets.evaluation.cases import Case, Outcome, Settings
from edgeward.targets.evaluation.checks import read_checks
from edgeward.targets.evaluation.evaluate import Asked, evaluate
from edgeward.targets.evaluation.gate import read_gates

CASE = Case(1, {"prompt": "where"}, ("Gate B12",))
SCHEMA = {
    "type": "object",
    "properties": {"gate": {"$ref": "#/$defs/gate"}},
    "required": ["gate"],
    "$defs": {"gate": {"type": "string", "pattern": "^B"}},
}


def holds(rule: str, text: str) -> bool:
    (check,) = read_checks([rule])
    return check.holds(text, CASE)


@pytest.mark.parametrize(
    ("rule", "kept", "broken"),
    [
        (r"pattern=^B\d+$", "B12", "gate B12"),
        ("contains=b1", "gate B12", "gate"),
        ("contains", "it is gate b12.", "it is gate b2."),
        ("not-contains=sorry", "B12", "I am Sorry"),
        ("min-length=3", "abc", "ab"),
        ("max-length=3", "abc", "abcd"),
        ("json", '{"a": 1}', "{a: 1}"),
        ("json", "```json\n[1]\n```", "here: [1]"),
        ("json", "null", ""),
    ],
)
def test_a_rule_is_kept_or_broken(rule: str, kept: str, broken: str) -> None:
    assert holds(rule, kept)
    assert not holds(rule, broken)


def test_a_schema_is_kept_or_broken(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(SCHEMA))
    assert holds(f"json-schema={path}", '{"gate": "B12"}')
    for text in ('{"gate": "C1"}', "{}", "[]", "gate", '{"gate": "B12"'):
        assert not holds(f"json-schema={path}", text)


def test_a_schema_fetches_nothing(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    with socket.create_server(("127.0.0.1", 0)) as server:
        # What would be fetched ends soon, so that a fetch is a failure and no endless wait.
        socket.setdefaulttimeout(2)
        try:
            port = server.getsockname()[1]
            path.write_text(json.dumps({"$ref": f"http://127.0.0.1:{port}/schema.json"}))
            with pytest.raises(UsageError, match="refers to what is not in it"):
                holds(f"json-schema={path}", "{}")
        finally:
            socket.setdefaulttimeout(None)
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize(
    "rule",
    ["pattern=(", "max-length=x", "min-length=-1", "not-contains", "json=1", "json-schema=none",
     "colour=red"],
)  # fmt: skip
def test_a_rule_that_is_none_is_refused(rule: str) -> None:
    with pytest.raises(UsageError):
        read_checks([rule])


def test_a_schema_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    for content in ("{", '{"type": "thing"}', "5"):
        path.write_text(content)
        with pytest.raises(UsageError, match="no JSON schema"):
            read_checks([f"json-schema={path}"])


def test_a_rule_may_stand_there_twice() -> None:
    checks = read_checks(["contains=a", "contains=b"])
    assert [check.name for check in checks] == ["check:contains", "check:contains#2"]
    outcomes = [Outcome(CASE, {"text": text}) for text in ("a", "ab", "c", "d")]
    values = [check.metric.value(check.metric.scores(outcomes).rows) for check in checks]
    assert values == [0.5, 0.25]


def test_answers_without_references_are_checked_and_gated(tmp_path: Path) -> None:
    bundle = decoder(tmp_path / "writes")
    data = lines(tmp_path / "a.jsonl", [{"prompt": "abc"}, {"prompt": "b"}])
    settings = Settings({}, max_tokens=4, raw=True)
    with pytest.raises(UsageError, match="nothing to tell"):
        evaluate(bundle.path, data, Asked(settings=settings), None, lambda *_: None)
    asked = Asked(
        checks=read_checks(["min-length=1", "max-length=0"]),
        gates=read_gates(["check:min-length=1", "check:max-length=1"], []),
        settings=settings,
        resamples=0,
    )
    found = evaluate(bundle.path, data, asked, None, lambda *_: None)
    assert [figure.name for figure in found.missed] == ["check:max-length"]
