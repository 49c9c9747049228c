"""What the planner predicts for llama.cpp on a GPU beside what this machine's GPU does.

usage: python benchmarks/plan/on_gpu.py --target h100 [--models llama-3.2-1b,llama-3.1-8b]
       [--types f16,q8_0,q4_0,q4_k_m] [--contexts 512,8192] [--prompt 512] [-o table|json|csv]

Models are random weights in the shapes of tests/targets/plan/configs, as speed does not ask for
their values. Needed are a llama-cpp-python built with CUDA, the package gguf and nvidia-smi.
Nothing is calibrated: predictions are what `edgeward plan` says. Each file is a process of its own,
times are of the wall, the median of the steps, through edgeward's own engine; memory is what the
whole GPU holds beyond what it held before.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from random_gguf import round_to, write_half
from reality import error, print_errors

from edgeward.runtimes.engines.llama_decoder import LlamaDecoder
from edgeward.runtimes.engines.llama_native import Model, engine_words
from edgeward.runtimes.output import print_rows
from edgeward.targets.load import load
from edgeward.targets.plan.gather import facts_of
from edgeward.targets.plan.predict import plan_model
from edgeward.targets.profile import Engine, Recipe

CONFIGS = Path(__file__).resolve().parents[2] / "tests" / "targets" / "plan" / "configs"
ENGINE = Engine("llama-cpp", "", None, ("CUDA",), {})
HALF = "f16"
PRECISIONS = {HALF: "fp16"}
STEPS, PROMPTS = 32, 5
COLUMNS = (
    *("model", "precision", "context", "memory_mib", "measured_mib", "memory_error"),
    *("tpot_ms", "measured_tpot_ms", "tpot_error", "ttft_ms", "measured_ttft_ms", "ttft_error"),
)


def main() -> None:
    """Print a row for each model, type and context, and the errors' medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="h100")
    parser.add_argument("--models", default="llama-3.2-1b,llama-3.2-3b,llama-3.1-8b")
    parser.add_argument("--types", default=f"{HALF},q8_0,q4_0,q4_k_m")
    parser.add_argument("--contexts", default="512,8192")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("-o", "--output", default="table")
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    contexts = [int(each) for each in asked.contexts.split(",")]
    if asked.file is not None:
        print(json.dumps(measured(asked.file, contexts, asked.prompt)))
        return
    print(*engine_words(), file=sys.stderr)
    rows = list(compared(asked, contexts))
    print_rows(rows, COLUMNS, asked.output)
    print_errors(rows, ("memory_error", "tpot_error", "ttft_error"))


def compared(asked: argparse.Namespace, contexts: list[int]) -> Iterator[dict[str, object]]:
    """Give predicted and measured figures, errors in percent of the measured."""
    profile = load(asked.target)
    for name in asked.models.split(","):
        config = json.loads((CONFIGS / f"{name}.json").read_text())["config"]
        facts = facts_of(config, name=name)
        for kind, file in files(config, asked.types.split(",")):
            recipe = Recipe("gguf", PRECISIONS.get(kind, kind))
            found = in_a_child(file, asked)
            for context in contexts:
                plan = plan_model(
                    facts, profile, recipe, context, engine=ENGINE, prompt=asked.prompt
                )
                at = found[str(context)]
                memory = plan.memory.total / 2**20
                each, first = (plan.tpot_s or 0.0) * 1e3, (plan.ttft_s or 0.0) * 1e3
                yield {
                    "model": name,
                    "precision": plan.precision,
                    "context": context,
                    "memory_mib": memory,
                    "measured_mib": at["memory_mib"],
                    "memory_error": error(memory, at["memory_mib"]),
                    "tpot_ms": each,
                    "measured_tpot_ms": at["tpot_ms"],
                    "tpot_error": error(each, at["tpot_ms"]),
                    "ttft_ms": first,
                    "measured_ttft_ms": at["ttft_ms"],
                    "ttft_error": error(first, at["ttft_ms"]),
                }


def files(config: Mapping[str, Any], kinds: list[str]) -> Iterator[tuple[str, Path]]:
    """Write one file after the other, each gone when the next is asked for."""
    with tempfile.TemporaryDirectory() as scratch:
        half = Path(scratch) / f"{HALF}.gguf"
        write_half(config, half)
        for kind in kinds:
            file = half if kind == HALF else half.with_name(f"{kind}.gguf")
            if file != half:
                round_to(half, file, kind, os.cpu_count() or 1)
            yield kind, file
            if file != half:
                file.unlink()


def in_a_child(file: Path, asked: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return what a process of its own measures of one file, by context."""
    command = [sys.executable, __file__, "--file", str(file), "--contexts", asked.contexts]
    done = subprocess.run(
        [*command, "--prompt", str(asked.prompt)], check=True, stdout=subprocess.PIPE
    )
    told: dict[str, dict[str, float]] = json.loads(done.stdout)
    return told


def measured(file: Path, contexts: list[int], prompt: int) -> dict[int, dict[str, float]]:
    """Return memory, TTFT and TPOT by context, through one loaded model."""
    before = gpu_mib()
    model = Model(file)
    return {context: measured_at(model, context, prompt, before) for context in contexts}


def measured_at(model: Model, context: int, prompt: int, before: float) -> dict[str, float]:
    """Return memory in MiB beyond `before`, TTFT and TPOT in milliseconds."""
    decoder = LlamaDecoder(model, os.cpu_count() or 1, exact=False)
    ids = [100 + (number * 37) % 3000 for number in range(max(context, prompt))]
    first = [timed(lambda: decoder.start().next_logits(ids[:prompt])) for _ in range(PROMPTS)]
    state = decoder.start()
    state.next_logits(ids[: context - STEPS])
    steps = [timed(lambda: state.next_logits(ids[:1]).argmax()) for _ in range(STEPS)]
    return {
        "memory_mib": gpu_mib() - before,
        "tpot_ms": statistics.median(steps) * 1e3,
        "ttft_ms": statistics.median(first) * 1e3,
    }


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def gpu_mib() -> float:
    """Return the MiB that the first GPU holds for everyone."""
    query = ("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits")
    said = subprocess.run(query, check=True, capture_output=True, text=True).stdout
    return float(said.splitlines()[0])


if __name__ == "__main__":
    main()
