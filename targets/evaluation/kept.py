"""Predictions kept in a file of JSON lines, and taken from there by the next run of the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from edgeward.errors import UsageError
from edgeward.runtimes.session import Session

from .cases import Case, Found, Outcome, Work


def outcomes(
    work: Work,
    session: Callable[[], Session],
    kept: Path | None,
    identity: Mapping[str, Any],
    progress: Callable[[int], None],
) -> list[Outcome]:
    """Return what a bundle makes of every case; `kept` has a line for each as soon as it is there.

    A file of an earlier run of the same (`identity`) is gone on with: `session` is only asked for
    where cases are left. Raises UsageError where the file is of something else.
    """
    found = [] if kept is None else _read(kept, identity, work.cases)
    progress(len(found))
    left = work.cases[len(found) :]
    if left:
        with _writing(kept, identity, bool(found)) as write:
            for case, one in zip(left, work.run(session(), left), strict=True):
                write(case, one)
                found.append(one)
                progress(len(found))
    return [Outcome(case, one) for case, one in zip(work.cases, found, strict=True)]


def _read(path: Path, identity: Mapping[str, Any], cases: Sequence[Case]) -> list[Found]:
    """What stands there of these cases, in their order; a torn last line is cut off."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"{path} cannot be read", why=error.strerror or str(error)) from None
    whole = content[: content.rfind(b"\n") + 1]
    lines = [_parsed(line) for line in whole.splitlines()]
    if not content:
        return []
    if not lines or lines[0] != {"evaluation": dict(identity)}:
        raise UsageError(
            f"{path} holds no predictions of this run",
            why="its first line names another bundle, other data or other settings",
            next="name another file, or move this one away",
        )
    found: list[Found] = []
    for case, line in zip(cases, lines[1:], strict=False):
        if not isinstance(line, dict) or line.get("line") != case.line or "found" not in line:
            raise UsageError(f"{path} is damaged", why=f"line {len(found) + 2} is no prediction")
        found.append(line["found"])
    if len(whole) != len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return found


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


@contextmanager
def _writing(
    path: Path | None, identity: Mapping[str, Any], goes_on: bool
) -> Iterator[Callable[[Case, Found], None]]:
    if path is None:
        yield lambda _case, _found: None
        return
    try:
        file = path.open("a" if goes_on else "w", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written", why=error.strerror or str(error)) from None
    with file:
        if not goes_on:
            _line(file, {"evaluation": dict(identity)})
        yield lambda case, found: _line(
            file, {"line": case.line, "wanted": case.wanted, "found": found}
        )


def _line(file: TextIO, document: Mapping[str, Any]) -> None:
    file.write(json.dumps(document, ensure_ascii=False) + "\n")
    file.flush()
