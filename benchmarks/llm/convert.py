"""Conversion and quantisation beside llama.cpp's bare tools, and the memory that they take.

usage: convert.py [MODEL] [--rounds N] [--precision P] [--large]. Both are run in turn in processes
of their own on the same model; the files have to be the same byte for byte. `--large` makes a
random checkpoint of 1.1 billion parameters in shards of 500 MB and tells the peaks.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeward.compiler.compile import CompileRequest, plan_bundles, stage_runner
from edgeward.compiler.formats.base import Job
from edgeward.compiler.formats.gguf import convert_stage, quantise_stage
from edgeward.compiler.formats.gguf_types import KINDS
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.stages import StageResult, StageRunner

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))

from fresh_cache import fresh_cache
from llama_tools import SUPPORT, bare_quantise, converter, make_models, run_there
from smollm2 import smollm2

_LARGE = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}
_WRITE = """
import sys, torch, make_gguf_models as tiny
from pathlib import Path
from transformers import AutoConfig, AutoModelForCausalLM
folder = Path(sys.argv[1]); folder.mkdir()
ids = tiny.copy_tokenizer(Path(sys.argv[2]), folder)
config = AutoConfig.for_model("llama", **{**eval(sys.argv[3]), **ids})
model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
model.save_pretrained(folder, max_shard_size="500MB")
"""


def job_of(model: Path, precision: str) -> Job:
    """Plan it."""
    request = CompileRequest(
        str(model), ("x86-64-cpu",), Path("build"), (precision,), format="gguf"
    )
    return plan_bundles(request)[1][0].jobs[0]


@contextmanager
def own_runner(folder: Path) -> Iterator[StageRunner]:
    """Give a runner on an empty cache, its processes not yet started."""
    cache = fresh_cache(folder / "cache")
    before = os.environ.get("EDGEWARD_CACHE")
    os.environ["EDGEWARD_CACHE"] = str(cache)
    try:
        with stage_runner(CompileRequest("", (), folder), NullReporter()) as stages:
            yield stages
    finally:
        os.environ.pop("EDGEWARD_CACHE")
        if before is not None:
            os.environ["EDGEWARD_CACHE"] = before


def ours(model: Path, precision: str, folder: Path) -> tuple[float, float, list[StageResult]]:
    """Return the seconds of both stages with their processes' start, and what they left."""
    job = job_of(model, precision)
    with own_runner(folder) as stages:
        began = time.perf_counter()
        converted = stages.run(convert_stage(job))
        middle = time.perf_counter()
        made = stages.run(quantise_stage(job, converted.as_input("model.gguf"), None))
        return middle - began, time.perf_counter() - middle, [converted, made]


def bare(model: Path, precision: str, folder: Path, kind: str) -> tuple[float, float]:
    """Return the seconds of the script and of the function, each a process."""
    script, file = converter() / "convert_hf_to_gguf.py", folder / "bare.gguf"
    began = time.perf_counter()
    run_there("gguf", script, model, "--outfile", file, "--outtype", kind)
    middle = time.perf_counter()
    bare_quantise(file, folder / "bare-quantised.gguf", ftype=KINDS[precision].number)
    return middle - began, time.perf_counter() - middle


def compare(model: Path, precision: str, rounds: int) -> None:
    """Print each round and the median ratios."""
    ratios: list[list[float]] = []
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            mine = ours(model, precision, folder)
            theirs = bare(model, precision, folder, str(mine[2][0].data["floats"]))
            pairs = zip(mine[2], ("bare.gguf", "bare-quantised.gguf"), strict=True)
            same = all(
                filecmp.cmp(made.path / "model.gguf", folder / name, shallow=False)
                for made, name in pairs
            )
        ratios.append([sum(mine[:2]) / sum(theirs), mine[0] / theirs[0], mine[1] / theirs[1]])
        print(
            f"round {number + 1}: ours {mine[0]:.2f} + {mine[1]:.2f} s, bare {theirs[0]:.2f} + "
            f"{theirs[1]:.2f} s, ratio {ratios[-1][0]:.3f}, files {'equal' if same else 'DIFFER'}",
            flush=True,
        )
    whole, convert, quantise = (statistics.median(column) for column in zip(*ratios, strict=True))
    print(f"median ratio {whole:.3f} (conversion {convert:.3f}, quantisation {quantise:.3f})")


def memory() -> None:
    """Print the peaks of a large sharded checkpoint over its largest shard."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        tiny = make_models(smollm2(), "llama")["llama"]
        run_there("gguf", "-c", _WRITE, folder / "large", smollm2(), repr(_LARGE), paths=[SUPPORT])
        shards = [path.stat().st_size for path in (folder / "large").glob("*.safetensors")]
        job = job_of(folder / "large", "q4_0")
        with own_runner(folder) as stages:
            idle = stages.run(convert_stage(job_of(tiny, "bf16"))).peak_memory_bytes
            converted = stages.run(convert_stage(job))
            made = stages.run(quantise_stage(job, converted.as_input("model.gguf"), None))
        extra = (converted.peak_memory_bytes - idle) / max(shards)
        print(
            f"{sum(shards) / 1e9:.2f} GB in {len(shards)} shards, the largest "
            f"{max(shards) / 1e6:.0f} MB: conversion {converted.seconds:.1f} s, "
            f"{converted.peak_memory_bytes / 1e6:.0f} MB of which {idle / 1e6:.0f} MB without a "
            f"model: {extra:.2f} shards; quantisation {made.seconds:.1f} s, "
            f"{made.peak_memory_bytes / 1e6:.0f} MB: {made.peak_memory_bytes / max(shards):.2f}"
        )


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="q4_k_m")
    parser.add_argument("--large", action="store_true")
    asked = parser.parse_args()
    compare(asked.model or smollm2(), asked.precision, asked.rounds)
    if asked.large:
        memory()


if __name__ == "__main__":
    main()
