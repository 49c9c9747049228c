"""How a build ended, in words. Rules only."""

from __future__ import annotations

import re
import signal

from edgeward.errors import BuildError
from edgeward.runtimes.child import Ended

_MEANINGS = {
    signal.SIGSEGV: "a fault in native code",
    signal.SIGABRT: "native code gave up on a failed check",
    signal.SIGKILL: "most likely by the system, for want of memory",
    signal.SIGBUS: "a file shorter than its map, or a failing disk",
}
_LESS_MEMORY = "edgeward finalize BUNDLE --workspace-mib 256, with other programs closed"
# trtexec begins its errors with a time and [E].
_ERROR = re.compile(r"(?:^\[[^\]]*\] \[E\] |^error: )(.*)$", re.MULTILINE)
_SHOWN = 3
_MAX_WORDS = 800


def build_error(builder: str, ended: Ended) -> BuildError:
    """Return the error of a build that gave no plan."""
    said = _said(ended)
    if ended.stopped:
        return BuildError(f"{builder} was stopped: {ended.stopped}", why=said, next=_LESS_MEMORY)
    if ended.status < 0:
        name, meaning = _signal(-ended.status)
        next_ = _LESS_MEMORY if -ended.status == signal.SIGKILL else ""
        return BuildError(f"{builder} was ended by {name}", why=_joined(meaning, said), next=next_)
    if ended.status:
        return BuildError(
            f"{builder} built no engine: it ended with status {ended.status}", why=said
        )
    return BuildError(f"{builder} ended well and left no plan", why=said)


def _signal(number: int) -> tuple[str, str]:
    try:
        known = signal.Signals(number)
    except ValueError:
        return f"signal {number}", ""
    return known.name, _MEANINGS.get(known, "")


def _said(ended: Ended) -> str:
    """The errors that it told, else its last line."""
    found = _ERROR.findall(ended.errors)
    if not found:
        text = ended.output[-2000:].decode("utf-8", "replace")
        lines = ended.errors.strip().splitlines() or text.strip().splitlines()
        found = lines[-1:]
    return "; ".join(line.strip() for line in found[:_SHOWN])[:_MAX_WORDS]


def _joined(*parts: str) -> str:
    return ". ".join(part for part in parts if part)
