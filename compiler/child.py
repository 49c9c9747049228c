"""A child process in a group of its own that dies with this process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from . import guard

_UNWANTED = ("PYTHON", "VIRTUAL_ENV", "CONDA_", "__PYVENV")


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without what would lead another Python astray.

    Strings hash the same in every run, so that converters which iterate over sets are repeatable.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_UNWANTED)}
    kept.update({"PYTHONHASHSEED": "0", "PYTHONNOUSERSITE": "1", "PYTHONUTF8": "1"})
    kept.update(extra)
    return kept


class Child:
    """A running command, its pipes, and the line by which it lives.

    Raises OSError where it cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str],
        stderr: IO[bytes] | int,
        folder: Path | None = None,
        keep: Sequence[int] = (),
    ) -> None:
        lifeline, self._hold = os.pipe()
        guarded = [sys.executable, "-I", "-S", guard.__file__, str(lifeline), *map(str, command)]
        try:
            self.popen = subprocess.Popen(
                guarded,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=dict(environment),
                cwd=folder,
                pass_fds=(lifeline, *keep),
                start_new_session=True,
                bufsize=0,
            )
        except BaseException:
            os.close(self._hold)
            raise
        finally:
            os.close(lifeline)
        self._released = False

    @property
    def pid(self) -> int:
        """The process's id, which is its group's too."""
        return self.popen.pid

    def exit_code(self) -> int | None:
        """Return the exit status, -N after signal N, None while it runs."""
        return self.popen.poll()

    def wait(self, seconds: float | None = None) -> int:
        """Wait for the end; raises subprocess.TimeoutExpired."""
        return self.popen.wait(seconds)

    def kill(self) -> None:
        """Kill the whole group, wait, close everything; harmless when it has ended."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait()
        self.close()

    def close(self) -> None:
        """Let go of a command that has ended."""
        if self._released:
            return
        self._released = True
        with suppress(OSError):
            os.write(self._hold, guard.GOODBYE)
        os.close(self._hold)
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
