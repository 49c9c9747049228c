"""Compressed checkpoints: ours beside llm-compressor's plain one-shot of the same recipe.

usage: python benchmarks/llm/compressed.py MODEL [PRECISION...]

For each precision both run in turn, each in a process of its own in the `compressed` toolchain, one
thread, imports left out. Size, KL, top-1 and perplexity are of the checkpoint as it is loaded
again, against the float32 original on texts that neither was calibrated on; time (processor
seconds, so that neighbours do not count) and peak memory are of making it. The last column is ours
over plain.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from edgeward.compiler.formats.compressed_schemes import SCHEMES
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains.manager import Toolchains

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "compiler" / "data"
CONTESTANT = Path(__file__).with_name("compressed_contestant.py")
COLUMNS = ("mib", "kl", "top1", "perplexity_ratio", "seconds", "peak_mib")


def main(arguments: list[str]) -> None:
    """Print the table, row by row as it comes."""
    model, precisions = Path(arguments[0]).resolve(), arguments[1:] or list(SCHEMES)
    python = Toolchains().ensure("compressed", NullReporter()).python
    print(f"| precision | who | {' | '.join(COLUMNS)} | time, ours over plain |", flush=True)
    print("|---" * (len(COLUMNS) + 3) + "|", flush=True)
    for precision in precisions:
        found = {who: run(python, who, model, precision) for who in ("plain", "ours")}
        for who, figures in found.items():
            print(row(precision, who, figures, found), flush=True)


def run(python: Path, who: str, model: Path, precision: str) -> dict[str, float]:
    """Make one checkpoint and measure it; empty where it cannot be made."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        made = child(python, who, model, precision, out, DATA / "calibration.txt")
        if not made:
            return {}
        checked = child(python, "measure", model, out / "checkpoint", DATA / "sentences.txt")
        return {**made, **checked}


def child(python: Path, *arguments: object) -> dict[str, float]:
    """Run the contestant; empty where it failed, its last line on stderr."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [str(python), str(CONTESTANT), *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print((done.stderr.strip().splitlines() or ["no words"])[-1], file=sys.stderr, flush=True)
        return {}
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def row(
    precision: str, who: str, figures: dict[str, float], both: dict[str, dict[str, float]]
) -> str:
    """Return one line of the table."""
    if not figures:
        return f"| {precision} | {who} |" + " fails |" * len(COLUMNS) + " |"
    cells = [f"{figures[name]:.4g}" for name in COLUMNS]
    ratio = ""
    if who == "ours" and both["plain"]:
        ratio = f"{figures['seconds'] / both['plain']['seconds']:.2f}"
    return f"| {precision} | {who} | {' | '.join(cells)} | {ratio} |"


if __name__ == "__main__":
    main(sys.argv[1:])
