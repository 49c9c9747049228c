"""One way to make a compressed checkpoint; runs in the `compressed` toolchain's Python.

usage: compressed_contestant.py ours|plain MODEL PRECISION OUT TEXTS, or measure MODEL CHECKPOINT
TEXTS. Prints one line of JSON. `plain` is llm-compressor's own one-shot of the same recipe with the
same samples, as its examples write it.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from edgeward.compiler.formats import compressed_worker as worker
from edgeward.compiler.formats.compressed_calibration import token_samples
from edgeward.compiler.formats.compressed_layers import group_of, load_stored
from edgeward.compiler.formats.compressed_pipeline import unpinned
from edgeward.compiler.formats.compressed_schemes import SCHEMES
from edgeward.compiler.stage_context import StageContext
from edgeward.compiler.torch_engine import open_model
from edgeward.runtimes.engines.base import EngineOptions
from edgeward.runtimes.proof.generation import kl_divergence, perplexity, top1_agreement

FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
WINDOW = 256


def ours(model: Path, precision: str, out: Path, texts: list[str]) -> None:
    """The stage as a compile runs it, blocks kept on disk."""
    for name in ("out", "scratch", "resume"):
        (out / name).mkdir(parents=True)
    files = [name for name in FILES if (model / name).is_file()]
    context = StageContext(
        {"source": model}, out / "out", scratch=out / "scratch", resume=out / "resume"
    )
    worker.compress(
        context, {"precision": precision, "texts": texts, "tokens": 1 << 16, "files": files}
    )
    (out / "out" / "assets").rename(out / "checkpoint")


def plain(model: Path, precision: str, out: Path, texts: list[str]) -> None:
    """llm-compressor's one-shot; its AWQ fails without an accelerator unless it is helped."""
    from datasets import Dataset
    from llmcompressor import oneshot

    loaded, kept = load_stored(model)
    scheme = SCHEMES[precision]
    recipe = worker.recipe_of(loaded, kept, scheme, group_of(loaded, kept, scheme))
    tokenizer = AutoTokenizer.from_pretrained(model)
    samples = token_samples(model, tokenizer, texts)
    rows = [{name: tensor[0].tolist() for name, tensor in one.items()} for one in samples]
    given: dict[str, Any] = {}
    if scheme.calibrated:
        given = {"dataset": Dataset.from_list(rows), "num_calibration_samples": len(rows)}
        given |= {"max_seq_length": 512, "shuffle_calibration_samples": False}
    with unpinned():
        oneshot(model=loaded, tokenizer=tokenizer, recipe=recipe, **given)
    loaded.save_pretrained(out / "checkpoint")
    tokenizer.save_pretrained(out / "checkpoint")


def measure(model: Path, checkpoint: Path, texts: list[str]) -> dict[str, float]:
    """Hold a checkpoint against the float32 original on windows of text."""
    ids = AutoTokenizer.from_pretrained(model)(" ".join(texts))["input_ids"]
    windows = [ids[at : at + WINDOW] for at in range(0, len(ids) - WINDOW // 2, WINDOW)]
    original = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    engine = open_model(checkpoint / "model.safetensors", EngineOptions(threads=1))
    rows = []
    for window in windows:
        with torch.inference_mode():
            wanted = original(torch.tensor([window])).logits[0].numpy()
        found = engine.start().logits(window)
        rows.append(
            (
                kl_divergence(wanted, found),
                top1_agreement(wanted, found),
                perplexity(found, window) / perplexity(wanted, window),
            )
        )
    kl, top1, ratio = (sum(column) / len(rows) for column in zip(*rows, strict=True))
    size = sum(path.stat().st_size for path in checkpoint.glob("*.safetensors"))
    return {"kl": kl, "top1": top1, "perplexity_ratio": ratio, "mib": size / 2**20}


def main(arguments: list[str]) -> None:
    """Run what is asked for; whatever libraries print goes to stderr."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    what, model, *more = arguments
    texts = [line for line in Path(more.pop()).read_text("utf-8").splitlines() if line]
    if what == "measure":
        answer.write(json.dumps(measure(Path(model), Path(more[0]), texts)))
        return
    began = time.process_time()
    make = {"ours": ours, "plain": plain}[what]
    make(Path(model), more[0], Path(more[1]), texts)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answer.write(json.dumps({"seconds": time.process_time() - began, "peak_mib": peak}))


if __name__ == "__main__":
    main(sys.argv[1:])
