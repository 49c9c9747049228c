"""Rules that an answer keeps or breaks: `pattern=REGEX`, `json-schema=FILE`, lengths, words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeward.errors import UsageError

from .cases import TEXT, Case, Outcome
from .metrics.base import Metric, Scores, mean, stacked

Rule = Callable[[str, Case], bool]
PREFIX = "check:"
_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(.*)\n\s*```\s*\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Check:
    """A rule by its name; `holds` tells of a text."""

    name: str
    holds: Rule

    @property
    def metric(self) -> Metric:
        """The share of answers that keep the rule."""

        def scores(outcomes: Sequence[Outcome]) -> Scores:
            kept = [self.holds(answer_of(one), one.case) for one in outcomes]
            return stacked([[float(one)] for one in kept], 1)

        return Metric(scores, mean, counts=True)


def read_checks(stated: Sequence[str]) -> tuple[Check, ...]:
    """Read `RULE=VALUE`, each named `check:RULE`, and `check:RULE#2` for a second of a rule.

    Raises UsageError where a rule is unknown or its value is none.
    """
    checks: list[Check] = []
    counted: dict[str, int] = {}
    for text in stated:
        rule, _, value = text.partition("=")
        if rule not in RULES:
            raise UsageError(f"There is no check {rule!r}", why=f"known: {', '.join(RULES)}")
        counted[rule] = counted.get(rule, 0) + 1
        again = f"#{counted[rule]}" if counted[rule] > 1 else ""
        checks.append(Check(f"{PREFIX}{rule}{again}", RULES[rule](value)))
    return tuple(checks)


def answer_of(outcome: Outcome) -> str:
    """Return an answer as text: what was written, else the class."""
    found = outcome.found
    return str(found.get(TEXT, found.get("label", "")))


def _pattern(value: str) -> Rule:
    try:
        pattern = re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(f"pattern={value} is no regular expression", why=str(error)) from None
    return lambda text, _: pattern.search(text) is not None


def _contains(value: str) -> Rule:
    """Without a value: one of the case's references."""
    if value:
        return lambda text, _: value.casefold() in text.casefold()

    def names_a_reference(text: str, case: Case) -> bool:
        wanted = case.wanted if isinstance(case.wanted, tuple) else (case.wanted,)
        return any(str(one).casefold() in text.casefold() for one in wanted if one)

    return names_a_reference


def _lacks(value: str) -> Rule:
    if not value:
        raise UsageError("not-contains takes a text: not-contains=TEXT")
    return lambda text, _: value.casefold() not in text.casefold()


def _at_least(value: str) -> Rule:
    least = _count("min-length", value)
    return lambda text, _: len(text) >= least


def _at_most(value: str) -> Rule:
    most = _count("max-length", value)
    return lambda text, _: len(text) <= most


def _count(rule: str, value: str) -> int:
    if not value.isascii() or not value.isdecimal() or len(value) > 9:
        raise UsageError(f"{rule} takes a number of characters, not {value!r}")
    return int(value)


def _json(value: str) -> Rule:
    if value:
        raise UsageError("The check json takes no value", next="--check json-schema=FILE")
    return lambda text, _: _parsed(text) is not None


def _json_schema(value: str) -> Rule:
    """The schema's references stay inside it: nothing is fetched."""
    from jsonschema.exceptions import SchemaError, best_match
    from jsonschema.validators import validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    try:
        schema = json.loads(Path(value).read_text(encoding="utf-8"))
        kind = validator_for(schema)
        kind.check_schema(schema)
    except (OSError, ValueError, RecursionError, SchemaError, TypeError) as error:
        raise UsageError(f"json-schema={value} is no JSON schema", why=str(error)[:300]) from None
    validator = kind(schema, registry=Registry())

    def fits(text: str, _: Case) -> bool:
        parsed = _parsed(text)
        if parsed is None:
            return False
        try:
            return best_match(validator.iter_errors(parsed["value"])) is None
        except Unresolvable as error:
            raise UsageError(
                f"json-schema={value} refers to what is not in it", why=str(error)[:300]
            ) from None

    return fits


def _parsed(text: str) -> Mapping[str, Any] | None:
    """The JSON of an answer, which a fence of Markdown may stand around; None where it is none."""
    fenced = _FENCE.match(text)
    try:
        return {"value": json.loads(fenced[1] if fenced else text)}
    except (ValueError, RecursionError):
        return None


RULES: Mapping[str, Callable[[str], Rule]] = {
    "pattern": _pattern,
    "contains": _contains,
    "not-contains": _lacks,
    "min-length": _at_least,
    "max-length": _at_most,
    "json": _json,
    "json-schema": _json_schema,
}
