"""`edgeward compile` against the bare exporter plus quantiser, from an empty stage cache.

usage: python benchmarks/compile/overhead.py MODEL_FOLDER [--rounds 3]

Ours makes two proved bundles for one target (fp32 and int8-dynamic): export, quantise, the torch
reference, both artifacts verified and timed in the engine, packaged. Bare exports and quantises
in one process of the same toolchain and stops. In turn (A B, B A, ...), one thread each; prints
every pair, both medians and the median ratio, then what each of our stages took. Processor seconds
stand beside the wall clock: they tell a busy machine from a slow compile.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeward.compiler.cache_dir import cache_root
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains.manager import Toolchains
from edgeward.targets.probe import probe

BARE = Path(__file__).with_name("bare_onnx.py")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def ours(model: Path, folder: Path) -> None:
    """Compile with every toolchain made and no stage done."""
    cache = folder / "cache"
    cache.mkdir()
    (cache / "toolchains").symlink_to(cache_root() / "toolchains")
    command = [sys.executable, "-m", "edgeward", "compile", str(model), "--quiet"]
    command += ["--target", "x86-64-cpu", "-p", "fp32,int8-dynamic", "-o", str(folder / "build")]
    environment = {**os.environ, **ONE_THREAD, "EDGEWARD_CACHE": str(cache)}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def bare(python: Path, model: Path, folder: Path) -> None:
    """Run the script beside this one."""
    subprocess.run(
        [python, BARE, model, folder],
        check=True,
        env={**os.environ, **ONE_THREAD},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@dataclass(frozen=True)
class Run:
    """One run: wall clock, processor seconds, and ours by stage."""

    wall: float
    processor: float
    stages: dict[str, float]

    def __str__(self) -> str:
        """Return both times."""
        return f"{self.wall:5.1f} s ({self.processor:.1f} s of processor)"


def timed(python: Path | None, model: Path) -> Run:
    """Run once: ours where there is no bare Python."""
    folder = Path(tempfile.mkdtemp())
    try:
        used, began = processor_seconds(), time.perf_counter()
        if python is None:
            ours(model, folder)
        else:
            bare(python, model, folder)
        wall = time.perf_counter() - began
        return Run(wall, processor_seconds() - used, stage_seconds(folder / "cache"))
    finally:
        shutil.rmtree(folder)


def processor_seconds() -> float:
    """Return what all children that ended have used."""
    use = resource.getrusage(resource.RUSAGE_CHILDREN)
    return use.ru_utime + use.ru_stime


def stage_seconds(cache: Path) -> dict[str, float]:
    """Return the seconds by stage, both precisions together."""
    seconds: dict[str, float] = {}
    for path in (cache / "stages").glob("*/stage.json"):
        record = json.loads(path.read_text())
        seconds[record["name"]] = seconds.get(record["name"], 0.0) + record["seconds"]
    return seconds


def ratio(pairs: list[tuple[Run, Run]], what: Callable[[Run], float]) -> float:
    """Return the median of ours over bare."""
    return statistics.median(what(a) / what(b) for a, b in pairs)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    machine = probe()
    print(f"{machine.cpu_model}, {machine.cores} cores; 1 thread")
    python = Toolchains().ensure("onnx", NullReporter()).python
    pairs: list[tuple[Run, Run]] = []
    for number in range(given.rounds):
        if number % 2:
            mine, theirs = timed(None, given.model), timed(python, given.model)
        else:
            theirs, mine = timed(python, given.model), timed(None, given.model)
        pairs.append((mine, theirs))
        print(f"edgeward {mine}   bare {theirs}", flush=True)
    mine_s, theirs_s = (
        statistics.median(run.wall for run in runs) for runs in zip(*pairs, strict=True)
    )
    print(
        f"median: edgeward {mine_s:.1f} s, bare {theirs_s:.1f} s, "
        f"ratio {ratio(pairs, lambda run: run.wall):.2f} "
        f"({ratio(pairs, lambda run: run.processor):.2f} of processor)"
    )
    for stage in pairs[0][0].stages:
        print(f"  {stage:<10} {statistics.median(a.stages[stage] for a, _ in pairs):5.1f} s")


if __name__ == "__main__":
    main()
