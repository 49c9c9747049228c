"""Makes and measures packages; runs in the `coreml` toolchain, prints a line of JSON for each.

usage: coreml_contestant.py MODEL TASK FOLDER PRECISION...
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import torch

from edgeward.compiler.formats.coreml_worker import compress, convert, convert_decoder
from edgeward.compiler.mil_engine import open_mode
from edgeward.compiler.reference_model import load_another, load_tokenizer
from edgeward.compiler.stage_context import StageContext
from edgeward.compiler.tasks import task_spec
from edgeward.runtimes.engines.base import EngineOptions
from edgeward.runtimes.tasks.slots import SlottedDecoder, slots_of

DATA = Path(__file__).resolve().parents[2] / "compiler" / "data"
LENGTH, TEXTS, WRITTEN, READ = 128, 24, 64, 128
GENERATES = "text-generation"


def main(model: Path, task: str, folder: Path, precisions: Sequence[str]) -> None:
    """Make each precision twice, ours and plain, and measure both."""
    torch.set_num_threads(1)
    original = load_another(model, task_spec(task).auto_class)
    measure = texts_of(model, original) if task == GENERATES else vectors_of(model, original)
    for wide in {precision == "fp32" for precision in precisions}:
        make_ours(model, task, folder / f"float{wide}", wide)
        if task != GENERATES:
            make_plain(model, task, folder / f"plain{wide}.mlpackage", wide)
    for precision in precisions:
        wide = precision == "fp32"
        package = rounded(model, task, folder, precision, wide)
        tell(precision, "ours", package, measure)
        if task != GENERATES:
            tell(precision, "plain", plain(folder, precision, wide), measure)


def tell(precision: str, who: str, package: Path | None, measure: Callable[..., Any]) -> None:
    """Print a row; one of None where coremltools has no such thing or fails."""
    if package is None:
        return
    size = sum(path.stat().st_size for path in package.rglob("*") if path.is_file()) / 1e6
    print(
        json.dumps({"precision": precision, "who": who, "mb": size, **measure(package)}),
        flush=True,
    )


def make_ours(model: Path, task: str, out: Path, wide: bool) -> None:
    """Convert as the compile does."""
    out.mkdir(parents=True)
    says = {"source": model.name, "revision": "", "license": "", "architecture": ""}
    params = {
        "task": task,
        "files": ["config.json"],
        "ios": 18,
        "wide": wide,
        "says": says,
        "cache": 512,
    }
    context = StageContext({"source": model}, out, scratch=out.parent / f"scratch{wide}")
    if task == GENERATES:
        convert_decoder(context, params)
        return
    sizes = {"main": {"batch": 1, "sequence": LENGTH}}
    convert(context, {**params, "programs": sizes})


def rounded(model: Path, task: str, folder: Path, precision: str, wide: bool) -> Path:
    """Our package of a precision."""
    made = folder / f"float{wide}"
    if precision in ("fp32", "fp16"):
        return made / "model.mlpackage"
    out = folder / precision
    out.mkdir()
    texts = (DATA / "calibration.txt").read_text("utf-8").splitlines()
    params = {"task": task, "precision": precision, "texts": texts, "ios": 18}
    params["chunk_bytes"] = 1 << 30
    compress(StageContext({"source": model, "model": made}, out), params)
    return out / "model.mlpackage"


class Plain(torch.nn.Module):
    """The original behind an additive mask, without which coremltools does not convert it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, kinds: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the hidden states."""
        hidden = (1.0 - mask.to(torch.float32))[:, None, None, :] * -1e4
        return self.model(input_ids=ids, token_type_ids=kinds, attention_mask=hidden)[0]


def make_plain(model: Path, task: str, package: Path, wide: bool) -> None:
    """Convert as coremltools' guide does."""
    module = Plain(load_another(model, task_spec(task).auto_class)).eval()
    one = torch.ones((1, LENGTH), dtype=torch.int32)
    given = (one, one.clone(), one.clone())  # one tensor given twice would be one input
    program = torch.export.export(module, given, strict=False)
    names = ("input_ids", "token_type_ids", "attention_mask")
    made = ct.convert(
        program.run_decompositions({}),
        convert_to="mlprogram",
        inputs=[ct.TensorType(name=name, shape=(1, LENGTH), dtype=np.int32) for name in names],
        outputs=[ct.TensorType(name="last_hidden_state")],
        minimum_deployment_target=ct.target.iOS18,
        compute_precision=ct.precision.FLOAT32 if wide else ct.precision.FLOAT16,
        skip_model_load=True,
    )
    made.save(str(package))


def plain(folder: Path, precision: str, wide: bool) -> Path | None:
    """coremltools' own rounding of the plain package; None for what it needs a Mac for."""
    base = folder / f"plain{wide}.mlpackage"
    if precision in ("fp32", "fp16"):
        return base
    grids = {
        "int8-weights": {"dtype": "int8", "granularity": "per_channel"},
        "int4-weights": {"dtype": "int4", "granularity": "per_block", "block_size": 32},
        "int4-channels": {"dtype": "int4", "granularity": "per_channel"},
    }
    tables = {
        "palette6": {"nbits": 6, "mode": "kmeans"},
        "palette4": {
            "nbits": 4, "mode": "kmeans", "granularity": "per_grouped_channel", "group_size": 16,
        },
    }  # fmt: skip
    model = ct.models.MLModel(str(base), skip_model_load=True)
    if precision in grids:
        how = cto.OpLinearQuantizerConfig(mode="linear_symmetric", **grids[precision])
        made = cto.linear_quantize_weights(model, cto.OptimizationConfig(global_config=how))
    elif precision in tables:
        how = cto.OpPalettizerConfig(**tables[precision])
        made = cto.palettize_weights(model, cto.OptimizationConfig(global_config=how))
    else:
        return None
    package = folder / f"plain-{precision}.mlpackage"
    made.save(str(package))
    return package


def vectors_of(model: Path, original: Any) -> Callable[[Path], dict[str, float]]:
    """Measure the mean of hidden states over a text's tokens."""
    tokenizer = load_tokenizer(model)
    texts = (DATA / "sentences.txt").read_text("utf-8").splitlines()[:TEXTS]
    given, wanted = [], []
    for text in texts:
        tokens = tokenizer(text, return_tensors="np")
        with torch.no_grad():
            found = original(**{k: torch.from_numpy(v) for k, v in tokens.items()})[0]
        wanted.append(found[0].mean(0).numpy())
        padded = np.zeros((3, 1, LENGTH), np.int32)
        count = tokens["input_ids"].shape[1]
        padded[0, 0, :count], padded[2, 0, :count] = tokens["input_ids"], 1
        given.append((padded, count))

    def measure(package: Path) -> dict[str, float]:
        session = open_mode(package, EngineOptions(threads=1), rounded=True)
        cosines = []
        for (padded, count), vector in zip(given, wanted, strict=True):
            names = ("input_ids", "token_type_ids", "attention_mask")
            fed = dict(zip(names, padded, strict=True))
            known = {name: value for name, value in fed.items() if name in session.inputs}
            got = session.run(known)["last_hidden_state"][0, :count].astype(np.float64).mean(0)
            cosines.append(got @ vector / np.linalg.norm(got) / np.linalg.norm(vector))
        mean = float(np.mean(cosines))
        return {"cosine_mean": mean, "cosine_min": float(min(cosines)), "lost": 1 - mean}

    return measure


def texts_of(model: Path, original: Any) -> Callable[[Path], dict[str, float]]:
    """Measure the distributions over a passage, and what is written after a prompt."""
    tokenizer = load_tokenizer(model)
    passage = (DATA / "sentences.txt").read_text("utf-8").replace("\n", " ")
    ids = tokenizer(passage)["input_ids"][:READ]
    prompt = ids[:17]
    with torch.no_grad():
        wanted = original(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        written = original.generate(
            torch.tensor([prompt]), max_new_tokens=WRITTEN, do_sample=False, min_new_tokens=WRITTEN
        )[0, len(prompt) :].tolist()

    def measure(package: Path) -> dict[str, float]:
        slots = slots_of(open_mode(package, EngineOptions(threads=1), rounded=True))
        if slots is None:
            return {}
        decoder = SlottedDecoder(slots)
        got = torch.from_numpy(decoder.start().logits(ids)).double().log_softmax(-1)
        kl = float((wanted.exp() * (wanted - got)).sum(-1).mean())
        top1 = float((wanted.argmax(-1) == got.argmax(-1)).double().mean())
        state, same = decoder.start(), 0
        logits = state.next_logits(prompt)
        for token in written:
            if int(logits.argmax()) != token:
                break
            same += 1
            logits = state.next_logits([token])
        return {"kl": kl, "top1": top1, "greedy": same, "of": len(written), "lost": kl}

    return measure


if __name__ == "__main__":
    shutil.rmtree(sys.argv[3], ignore_errors=True)
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
