"""What the planner predicts beside what is measured, on one thread.

usage: python benchmarks/plan/reality.py BUNDLE... [--contexts 512,2048] [--prompt 256] [--peaks]

The machine is calibrated first (`edgeward targets calibrate --threads 1`), its two rates again
before and after each bundle, since a machine that others share changes by the minute; what its
kernels reach of them is measured once. Each bundle and its
context are a process of its own (`asked.py`): times are of the processor, so that what else runs
does not count; memory is the kernel's peak of that process, the median of three. `--python` is an
interpreter that has the bundles' engine, as that of the toolchain `llama`. A bundle of fixed shapes
has one context, its own, whatever `--contexts` says. `--peaks` holds memory alone against the
profile of the machine as it is found, nothing calibrated, one process each.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeward.errors import UnsupportedError
from edgeward.runtimes.engines.litert_file import read_tflite
from edgeward.runtimes.engines.litert_slots import layout_of
from edgeward.runtimes.output import print_rows
from edgeward.targets.calibrate import (
    SCRIPTS,
    THREADS,
    Rates,
    document,
    measure,
    measure_kernels,
)
from edgeward.targets.fingerprint import Fingerprint
from edgeward.targets.load import load, names
from edgeward.targets.match import best
from edgeward.targets.plan.facts import ModelFacts
from edgeward.targets.plan.predict import plan_model
from edgeward.targets.plan.read import read_facts
from edgeward.targets.probe import probe
from edgeward.targets.profile import Engine, Profile, Reached, Recipe
from edgeward.targets.write import render

ASKED = Path(__file__).with_name("asked.py")
TIMES = 3
ENGINES = {"onnx": "onnxruntime", "gguf": "llama", "tflite": "litert"}
WRITES = ("text-generation", "automatic-speech-recognition")
TEXTS = ("text-generation", "text2text-generation")
PEAKS = ("model", "recipe", "context", "peak_mib", "measured_mib", "peak_error")
COLUMNS = (
    *PEAKS,
    *("gb_per_s", "gop_per_s"),
    *("tpot_ms", "measured_tpot_ms", "tpot_error", "ttft_ms", "measured_ttft_ms", "ttft_error"),
)


def main() -> None:
    """Print a row for each bundle and context, and the worst errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--contexts", default="512,2048")
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--peaks", action="store_true")
    parser.add_argument("-o", "--output", default="table")
    asked = parser.parse_args()
    machine = None if asked.peaks else Machine(probe(), kernels_of(asked.bundles, asked.python))
    print(machine or found_profile().title, file=sys.stderr)
    contexts = [int(each) for each in asked.contexts.split(",")]
    times = 1 if asked.peaks else TIMES
    rows = [
        compared(bundle, machine, context, asked.prompt, asked.python, times)
        for bundle in asked.bundles
        for context in contexts_of(bundle, contexts)
    ]
    figures = ("peak_error",) if asked.peaks else ("peak_error", "tpot_error", "ttft_error")
    print_rows(rows, PEAKS if asked.peaks else COLUMNS, asked.output)
    print_errors(rows, figures)


def print_errors(rows: Sequence[Mapping[str, object]], figures: Sequence[str]) -> None:
    """Print the median and the worst of each figure's errors, on stderr."""
    for figure in figures:
        errors = sorted(abs(float(str(row[figure]))) for row in rows if row[figure] is not None)
        if not errors:
            continue
        middle, worst = statistics.median(errors), errors[-1]
        print(f"{figure}: median {middle:.0f} %, worst {worst:.0f} %", file=sys.stderr)


@dataclass(frozen=True, slots=True)
class Machine:
    """This machine, and what its kernels reach of its rates on one thread."""

    fingerprint: Fingerprint
    kernels: Mapping[str, Reached]

    def profile(self, rates: Sequence[Rates]) -> Profile:
        """Return the calibrated profile of the mean of some rates."""
        mean = Rates(
            1,
            statistics.mean(each.bytes_per_s for each in rates),
            statistics.mean(each.operations_per_s for each in rates),
        )
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "this-machine.toml"
            content = document(self.fingerprint, mean, "", self.kernels)
            path.write_text(render(content), encoding="utf-8")
            return load(path)


def kernels_of(bundles: Sequence[Path], python: str) -> dict[str, Reached]:
    """Return what the kernels of the bundles' engines reach on one thread, where that is told."""
    formats = {recipe_of(bundle).format for bundle in bundles}
    engines = [ENGINES[name] for name in sorted(formats) if ENGINES[name] in SCRIPTS]
    found = {name: measure_kernels(name, 1, python) for name in engines}
    return {name: reached for name, reached in found.items() if reached}


def recipe_of(bundle: Path) -> Recipe:
    """Return what a bundle was made by."""
    recipe = json.loads((bundle / "manifest.json").read_text())["recipe"]
    return Recipe(recipe["format"], recipe["precision"])


def found_profile() -> Profile:
    """Return the catalog's profile that this machine matches best."""
    profile = best(map(load, names()), probe())
    if profile is None:
        raise UnsupportedError("no profile of the catalog matches this machine")
    return profile


def asked_of(
    command: Sequence[str], machine: Machine | None, times: int
) -> tuple[dict[str, float], Profile]:
    """Return what was measured, and the machine's profile of that time."""
    if machine is None:
        return measured(command, times), found_profile()
    before = measure(1)
    found = measured(command, times)
    return found, machine.profile([before, measure(1)])


def compared(
    bundle: Path, machine: Machine | None, context: int, prompt: int, python: str, times: int
) -> dict[str, object]:
    """Return predicted and measured figures, errors in percent of the measured."""
    recipe = recipe_of(bundle)
    command = [python, str(ASKED), str(bundle), str(context), str(prompt)]
    found, profile = asked_of(command, machine, times)
    facts = read_facts(str(bundle / "config.json"))
    plan = plan_model(
        facts,
        profile,
        recipe,
        None if facts.kind == "vision" else context,
        engine=Engine(ENGINES[recipe.format], ">=0", None, ("CPU",), {}),
        prompt=prompt_of(facts, context, prompt),
    )
    peak, first, each = plan.memory.total, plan.ttft_s or 0.0, plan.tpot_s
    return {
        "model": bundle.name,
        "recipe": f"{plan.format} {plan.precision}",
        "context": plan.context,
        "peak_mib": peak / 2**20,
        "measured_mib": found["peak_bytes"] / 2**20,
        "peak_error": error(peak, found["peak_bytes"]),
        "gb_per_s": profile.hardware.memory_bandwidth_bytes_per_s / 1e9,
        "gop_per_s": (profile.hardware.rate("fp32", ("cpu",)) or 0) / 1e9,
        "tpot_ms": each and each * 1e3,
        "measured_tpot_ms": each and found["tpot_s"] * 1e3,
        "tpot_error": each and error(each, found["tpot_s"]),
        "ttft_ms": first * 1e3,
        "measured_ttft_ms": found["ttft_s"] * 1e3,
        "ttft_error": error(first, found["ttft_s"]),
    }


def prompt_of(facts: ModelFacts, context: int, prompt: int) -> int | None:
    """Return how many tokens are read before the first is written, None for those of a sound."""
    if facts.kind != "encoder-decoder":
        return prompt
    return None if facts.encoder_tokens else context


def contexts_of(bundle: Path, asked: Sequence[int]) -> Sequence[int]:
    """Return the contexts that a bundle is asked with: the slots of its cache, or its sequence."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    if manifest["recipe"]["format"] == "tflite" and manifest["task"] in WRITES:
        layout = layout_of(read_tflite(bundle / manifest["entry"]))
        return [layout.context] if layout else asked
    lengths = [one["sizes"].get("sequence", 0) for one in manifest.get("buckets", [])]
    if lengths and max(lengths):
        return [max(lengths)]
    return asked if manifest["task"] in TEXTS else asked[:1]


def measured(command: Sequence[str], times: int) -> dict[str, float]:
    """Return the medians of what several processes tell."""
    environment = {**os.environ, **dict.fromkeys(THREADS, "1")}
    told = [
        json.loads(subprocess.run(command, capture_output=True, check=True, env=environment).stdout)
        for _ in range(times)
    ]
    return {name: statistics.median(float(one[name]) for one in told) for name in told[0]}


def error(predicted: float, found: float) -> float:
    """Return how far a prediction is off, in percent of what was found."""
    return round(100 * (predicted / found - 1), 1)


if __name__ == "__main__":
    main()
