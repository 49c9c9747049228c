"""Building with trtexec, TensorRT's own program.

Options as `trtexec --help` of TensorRT 10.5 lists them; all of them are in 10.3 too.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .builder import EngineBuilder, Order
from .ranges import InputShapes

PLACES = (Path("/usr/src/tensorrt/bin/trtexec"), Path("/opt/tensorrt/bin/trtexec"))
ASK_SECONDS = 60.0
_BANNER = re.compile(r"\[TensorRT v(\d{4,6})\]")


@dataclass(frozen=True, slots=True)
class TrtexecBuilder:
    """An EngineBuilder by trtexec at a path."""

    program: Path
    version: str
    name: str = "trtexec"

    def command(self, order: Order) -> list[str]:
        """Return trtexec's command line; shapes are given where an axis is dynamic."""
        command = [
            str(self.program),
            f"--onnx={order.onnx}",
            f"--saveEngine={order.plan}",
            "--stronglyTyped",
            "--skipInference",
            f"--timingCacheFile={order.timing_cache}",
        ]
        dynamic = [each for each in order.shapes if each.is_dynamic]
        if dynamic:
            command += [f"--{option}={spec}" for option, spec in _profile(dynamic)]
        if order.workspace_mib is not None:
            command.append(f"--memPoolSize=workspace:{order.workspace_mib}M")
        return command


def find_trtexec(places: Sequence[Path] = PLACES) -> EngineBuilder | str:
    """Return trtexec from PATH or where NVIDIA's packages put it; else why there is none."""
    found = shutil.which("trtexec")
    programs = [Path(found)] if found else [path for path in places if path.is_file()]
    if not programs:
        return f"trtexec is neither on PATH nor at {places[0]}"
    version = _version_of(programs[0])
    if version is None:
        return f"{programs[0]} does not say its version"
    return TrtexecBuilder(programs[0], version)


def _profile(shapes: Sequence[InputShapes]) -> list[tuple[str, str]]:
    ends = [
        ("minShapes", [(each.name, each.least) for each in shapes]),
        ("optShapes", [(each.name, each.usual) for each in shapes]),
        ("maxShapes", [(each.name, each.most) for each in shapes]),
    ]
    return [
        (option, ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in pairs))
        for option, pairs in ends
    ]


def _version_of(program: Path) -> str | None:
    """Its banner says `[TensorRT v100300]`, before 10 `v8602`; its exit status says nothing."""
    try:
        done = subprocess.run(
            [program, "--help"], capture_output=True, timeout=ASK_SECONDS, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = _BANNER.search(done.stdout[:65_536].decode("utf-8", "replace"))
    if found is None:
        return None
    number = int(found[1])
    step = 10_000 if number >= 100_000 else 1000
    return f"{number // step}.{number % step // 100}.{number % 100}"
