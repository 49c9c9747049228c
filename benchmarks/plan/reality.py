"""What the planner predicts beside what is measured, for bundles that write text, on one thread.

`edgeward targets calibrate --threads 1`, then
`python benchmarks/plan/reality.py MODEL BUNDLE... --target this-machine`. Each bundle is loaded and
run in a process of its own; its peak memory is the kernel's account of that process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from edgeward.runtimes import load as load_bundle
from edgeward.targets.load import load
from edgeward.targets.plan.predict import plan_model
from edgeward.targets.plan.read import read_facts
from edgeward.targets.profile import Recipe

WORDS = "The kiosk at gate B12 answers questions of travellers about trains, lifts and lockers. "
WRITTEN = 48


def measured(bundle: str, repeats: int) -> dict[str, float]:
    """Return TTFT and TPOT in ms, peak memory in MiB and the tokens written.

    TTFT is the best of three, TPOT the first decile: what the machine gives when others let it.
    """
    prompt = WORDS * repeats
    with load_bundle(bundle, threads=1) as session:
        for _ in session.generate(prompt, max_tokens=4):
            pass
        first, steps, tokens = [], [], 0
        for _ in range(3):
            last = time.perf_counter()
            for number, _ in enumerate(session.generate(prompt, max_tokens=WRITTEN)):
                now = time.perf_counter()
                (first if number == 0 else steps).append(now - last)
                last = now
                tokens = max(tokens, number + 1)
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return {
        "ttft_ms": 1000 * min(first),
        "tpot_ms": 1000 * statistics.quantiles(steps, n=10)[0],
        "peak_mib": peak / 1024,
        "written": tokens,
    }


def compared(model: str, bundle: str, target: str, repeats: int) -> dict[str, object]:
    """Return a row: predicted, measured and the error of each figure in percent."""
    command = [sys.executable, __file__, "--measure", bundle, "--repeats", str(repeats)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    recipe = json.loads((Path(bundle) / "manifest.json").read_text())["recipe"]
    prompt = 17 * repeats
    plan = plan_model(
        read_facts(model),
        load(target),
        Recipe(recipe["format"], recipe["precision"]),
        context=prompt + WRITTEN,
        prompt=prompt,
    )
    predicted = {
        "ttft_ms": 1000 * (plan.ttft_s or 0),
        "tpot_ms": 1000 * (plan.tpot_s or 0),
        "peak_mib": plan.memory.total / 2**20,
    }
    return {
        "precision": recipe["precision"],
        "context": plan.context,
        **{
            name: f"{value:.4g} predicted, {found[name]:.4g} measured, "
            f"{100 * (value / found[name] - 1):+.0f} %"
            for name, value in predicted.items()
        },
    }


def main() -> None:
    """Print a line for each bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?")
    parser.add_argument("bundles", nargs="*")
    parser.add_argument("--target", default="this-machine")
    parser.add_argument("--repeats", type=int, default=8, help="sentences in the prompt")
    parser.add_argument("--measure", help="measure one bundle in this process")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measured(options.measure, options.repeats)))
        return
    for bundle in options.bundles:
        print(json.dumps(compared(options.model, bundle, options.target, options.repeats)))


if __name__ == "__main__":
    main()
