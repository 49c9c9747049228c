"""The bytes that a TFLite decoder's weights are packed into, once all its signatures were called.

usage: packed_bytes.py MODEL.tflite, run with the Python of a toolchain that has the runtime.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from edgeward.runtimes.engines.base import EngineOptions
from edgeward.runtimes.engines.litert import open_model
from edgeward.runtimes.engines.litert_decoder import LiteRTDecoder
from edgeward.runtimes.engines.litert_slots import CompiledSlots


def main() -> None:
    """Print the bytes."""
    session = open_model(Path(sys.argv[1]), EngineOptions(threads=1))
    assert isinstance(session, LiteRTDecoder)
    slotted = session.slotted
    assert isinstance(slotted, CompiledSlots)
    cache = slotted.fresh({})
    for size in slotted.steps:
        slotted.call(size, np.ones((1, size), np.int32), 0, cache)
    print(sum(mapped(line) for line in Path("/proc/self/maps").read_text().splitlines()))


def mapped(line: str) -> int:
    """Return the bytes of a mapping that XNNPACK keeps packed weights in, 0 of another."""
    if "XNNPack" not in line:
        return 0
    first, last = line.split(maxsplit=1)[0].split("-")
    return int(last, 16) - int(first, 16)


if __name__ == "__main__":
    main()
