"""`edgeward compile` against the bare exporter plus quantiser, from an empty stage cache.

usage: python benchmarks/compile/overhead.py MODEL_FOLDER [--rounds 3]

Ours makes two proved bundles for one target (fp32 and int8-dynamic): export, quantise, the torch
reference, both artifacts verified and timed in the engine, packaged. Bare exports and quantises
in one process of the same toolchain and stops. In turn (A B, B A, ...), one thread each; prints
every pair, both medians and the median ratio.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
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


def timed(python: Path | None, model: Path) -> float:
    """Return the seconds of one run: ours where there is no bare Python."""
    folder = Path(tempfile.mkdtemp())
    try:
        began = time.perf_counter()
        if python is None:
            ours(model, folder)
        else:
            bare(python, model, folder)
        return time.perf_counter() - began
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    machine = probe()
    print(f"{machine.cpu_model}, {machine.cores} cores; 1 thread")
    python = Toolchains().ensure("onnx", NullReporter()).python
    times: dict[bool, list[float]] = {True: [], False: []}
    for number in range(given.rounds):
        for is_ours in (True, False) if number % 2 else (False, True):
            times[is_ours].append(timed(None if is_ours else python, given.model))
        print(f"edgeward {times[True][-1]:6.1f} s   bare {times[False][-1]:6.1f} s")
    ratio = statistics.median(a / b for a, b in zip(times[True], times[False], strict=True))
    print(
        f"median: edgeward {statistics.median(times[True]):.1f} s, "
        f"bare {statistics.median(times[False]):.1f} s, ratio {ratio:.2f}"
    )


if __name__ == "__main__":
    main()
