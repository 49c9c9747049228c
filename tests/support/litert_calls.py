"""Calls a LiteRT session for a test; run with the Python of a toolchain that has the runtime.

usage: litert_calls.py FILE NAME=SHAPE... Runs zeros of each shape, then what does not fit; prints
JSON.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.errors import EdgewardError
from edgeward.runtimes.engines.base import EngineOptions
from edgeward.runtimes.engines.litert import open_model


def main() -> None:
    """Print what the session answers."""
    session: Any = open_model(Path(sys.argv[1]), EngineOptions(threads=1))
    shapes = [tuple(map(int, word.split("x"))) for word in sys.argv[2:]]
    told: dict[str, Any] = {"engine": session.ref.name, "version": session.ref.version}
    told["values"] = [
        session.run({"x": np.full(shape, 2.0, np.float32)})["y"].ravel().tolist()
        for shape in shapes
    ]
    told["refused"] = [refused(session, given) for given in wrong()]
    told["together"] = together(session, shapes)
    print(json.dumps(told))


def wrong() -> list[Any]:
    """Inputs that fit no signature."""
    return [
        {"x": np.zeros((9, 9), np.float32)},
        {"x": np.array([["a"]])},
        {},
        {"x": np.zeros((1, 3), np.float32), "z": np.zeros(1)},
        [1],
    ]


def refused(session: Any, given: Any) -> str:
    """Return the name of the error."""
    try:
        session.run(given)
    except EdgewardError as error:
        return type(error).__name__
    return "none"


def together(session: Any, shapes: list[tuple[int, ...]]) -> bool:
    """Whether threads that call at once each get their own answer."""
    wrong_ones: list[float] = []

    def call(value: float) -> None:
        for _ in range(50):
            for shape in shapes:
                found = session.run({"x": np.full(shape, value, np.float32)})["y"]
                if not np.allclose(found, value + 1):
                    wrong_ones.append(value)

    threads = [threading.Thread(target=call, args=(float(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return not wrong_ones


if __name__ == "__main__":
    main()
