"""The command line as it is typed, whole, in this process: what counts is not Python's start."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from edgeward.cli import main


class Done(NamedTuple):
    """What a command said, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


def typed(*words: object, cwd: Path | None = None, **environment: str) -> Done:
    """Run `edgeward WORDS`; what it starts is in processes of its own."""
    out, errors = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
        pytest.raises(SystemExit) as ended,
    ):
        patch.setattr(sys, "argv", ["edgeward", *map(str, words)])
        for name, value in environment.items():
            patch.setenv(name, value)
        if cwd is not None:
            patch.chdir(cwd)
        main()
    code = ended.value.code
    assert isinstance(code, int)
    return Done(code, out.getvalue(), errors.getvalue())
