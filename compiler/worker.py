"""The process that runs stages inside a toolchain: requests on stdin, answers as JSON lines.

At import it needs the standard library and `edgeward.errors` alone. The real stdout belongs to the
protocol: descriptor 1 is pointed at stderr before any converter is imported, so that whatever they
print lands in the log.

Request: `{"id", "call": "package.module:function", "inputs": {name: path}, "params", "out",
"scratch", "resume", "origin"}`. Answers: `progress`, `metric`, `log`, then one `result` or `error`.
"""

from __future__ import annotations

import errno
import faulthandler
import gc
import importlib
import importlib.util
import json
import os
import signal
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any

from edgeward.errors import EdgewardError, StageError

from . import memory
from .stage_context import StageContext

MAX_ANSWER_BYTES = 4 << 20
# A converter's modules are half a million objects: looking through them all takes most of a second.
_WORTH_COLLECTING_BYTES = 32 << 20
_YOUNG_ROUNDS = 50

BOOTSTRAP = """
import sys
sys.path[:] = [entry for entry in sys.path if entry]
import importlib.util, os
spec = importlib.util.spec_from_file_location(
    "edgeward", sys.argv[1], submodule_search_locations=[os.path.dirname(sys.argv[1])])
module = importlib.util.module_from_spec(spec)
sys.modules["edgeward"] = module
spec.loader.exec_module(module)
from edgeward.compiler.worker import main
main()
"""


class Wire:
    """The protocol's way out; whole lines, from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "wb")
        self._lock = threading.Lock()

    def send(self, message: dict[str, Any]) -> None:
        """Write one message; raises StageError where it is not JSON or too long for a line."""
        try:
            line = json.dumps(message, allow_nan=False).encode() + b"\n"
        except (TypeError, ValueError) as error:
            raise StageError("a stage answered with what is not JSON", why=str(error)) from error
        if len(line) > MAX_ANSWER_BYTES:
            raise StageError(
                f"a stage answered with {len(line)} bytes", why="Large results belong in files."
            )
        with self._lock:
            self._file.write(line)
            self._file.flush()


def main() -> None:
    """Serve requests until stdin ends."""
    wire = Wire(os.dup(1))
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    youngest, middle, _ = gc.get_threshold()
    gc.set_threshold(youngest, middle, _YOUNG_ROUNDS)
    wire.send({"type": "ready", "pid": os.getpid()})
    held = 0
    for line in requests:
        answer(wire, json.loads(line))
        held = collect(held)


def collect(held: int) -> int:
    """Free what a stage left in circles where the process holds much more than `held` bytes.

    Returns what it holds now, 0 where that is not known.
    """
    now = _private_bytes()
    if now and now < held + _WORTH_COLLECTING_BYTES:
        return min(held, now)
    gc.collect()
    return _private_bytes()


def answer(wire: Wire, request: dict[str, Any]) -> None:
    """Run one request and send its result or its error."""
    number = request["id"]

    def send(message: dict[str, Any]) -> None:
        wire.send({**message, "id": number})

    try:
        data = run(request, send)
        send({"type": "result", "data": data, "peak": _own_peak_bytes()})
    except BaseException as error:  # noqa: BLE001 - every end of a stage is told to the parent
        if not isinstance(error, EdgewardError):
            traceback.print_exc()
        sys.stderr.flush()
        send(describe(error))
    finally:
        sys.stdout.flush()


def run(request: dict[str, Any], send: Any) -> dict[str, Any]:
    """Call the function that the request names and return its dict."""
    scratch = Path(request["scratch"])
    os.environ["TMPDIR"] = str(scratch)
    tempfile.tempdir = str(scratch)
    function = find(request["call"], request["origin"])
    inputs = {name: Path(path) for name, path in request["inputs"].items()}
    resume = Path(request["resume"]) if request.get("resume") else None
    out = Path(request["out"])
    context = StageContext(inputs, out, scratch=scratch, resume=resume, send=send)
    data = function(context, request["params"])
    if not isinstance(data, dict):
        raise StageError(
            f"{request['call']} returned {type(data).__name__}", why="A stage returns a dict."
        )
    return data


def find(call: str, origin: str | None) -> Any:
    """Return the function of `package.module:function`.

    `origin` is the file of the top-level package as the parent sees it: a format that another
    wheel brings is found there although the toolchain does not hold that wheel.
    """
    module, _, name = call.partition(":")
    top = module.partition(".")[0]
    if origin and top not in sys.modules and importlib.util.find_spec(top) is None:
        _load_from(top, Path(origin))
    return getattr(importlib.import_module(module), name)


def _load_from(top: str, origin: Path) -> None:
    places = [str(origin.parent)] if origin.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(top, origin, submodule_search_locations=places)
    if spec is None or spec.loader is None:
        raise StageError(f"{top} cannot be imported from {origin}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[top] = module
    spec.loader.exec_module(module)


def describe(error: BaseException) -> dict[str, Any]:
    """Return the message that tells of an error."""
    kind = type(error)
    message: dict[str, Any] = {"type": "error", "classes": [c.__name__ for c in kind.__mro__]}
    if isinstance(error, EdgewardError):
        parts = {"what": error.what, "why": error.why, "next": error.next}
        return {**message, **{name: _short(text) for name, text in parts.items()}}
    said = str(error).strip() or "no message"
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    starved = isinstance(error, MemoryError) or _is_allocation_failure(said)
    return {**message, "text": _short(said), "disk_full": full, "out_of_memory": starved}


def _short(text: str, limit: int = 4000) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _is_allocation_failure(text: str) -> bool:
    signs = ("can't allocate memory", "std::bad_alloc", "Cannot allocate memory", "out of memory")
    return any(sign.lower() in text.lower() for sign in signs)


def _private_bytes() -> int:
    return memory.tree_use(os.getpid()).private_bytes


def _own_peak_bytes() -> int:
    """The most this process ever used; counted in KiB by Linux, in bytes by macOS."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
