"""JUnit's XML: a suite of one bundle, a test for each gate, and for each figure without one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from edgeward.errors import UsageError

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(suite: str, seconds: float, rows: Sequence[Mapping[str, object]]) -> str:
    """Return the document; rows are those of a report, `passed` None where there is no gate."""
    failed = [row for row in rows if row.get("passed") is False]
    counts = {"tests": str(len(rows)), "failures": str(len(failed)), "errors": "0"}
    root = ElementTree.Element("testsuites", {"name": "edgeward eval", **counts})
    element = ElementTree.SubElement(
        root, "testsuite", {"name": _text(suite), **counts, "time": f"{seconds:.3f}"}
    )
    for row in rows:
        _case(element, suite, row)
    ElementTree.indent(root, " ")
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def write_junit(
    path: Path, suite: str, seconds: float, rows: Sequence[Mapping[str, object]]
) -> None:
    """Write the document; UsageError where it cannot be written."""
    try:
        path.write_text(render_junit(suite, seconds, rows), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written", why=error.strerror or str(error)) from None


def _case(suite: ElementTree.Element, name: str, row: Mapping[str, object]) -> None:
    told = {"classname": _text(name), "name": _text(str(row["metric"])), "time": "0"}
    case = ElementTree.SubElement(suite, "testcase", told)
    words = f"{row['metric']} is {row['value']} of {row['cases']} cases"
    if row.get("bound"):
        words += f", wanted {row['bound']}"
    if row.get("passed") is False:
        failure = ElementTree.SubElement(
            case, "failure", {"message": _text(words), "type": "threshold"}
        )
        failure.text = _text(str(row.get("note") or ""))
    ElementTree.SubElement(case, "system-out").text = _text(words)


def _text(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
