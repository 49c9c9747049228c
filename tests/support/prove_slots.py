"""Proves front ends with a cache of slots; run with a toolchain's Python that has transformers.

usage: prove_slots.py FOLDER KIND=MODEL_TYPE...

KIND is `plain`, `state` (the cache as buffers, the head in pieces), `damaged` (a weight is changed
after the front end was made), `alibi`, `linear`, `long`, `dynamic` or `whole` (settings that are
refused). Tiny models are made in FOLDER. Writes a JSON object a line.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from make_decoders import write_decoder
from make_writers import write_writer
from tiny_slots import exported

from edgeward.compiler.architectures import DECODERS
from edgeward.compiler.mobile.decoder import open_decoder_front
from edgeward.compiler.mobile.decoder_proof import prove_decoder
from edgeward.compiler.mobile.speech import open_writer_fronts
from edgeward.compiler.mobile.speech_proof import prove_writer
from edgeward.compiler.reference_model import load_another
from edgeward.compiler.tasks import task_spec
from edgeward.errors import EdgewardError

TOKENS, CONTEXT = 12, 64
ROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0] * 8,
    "long_factor": [4.0] * 8,
    "original_max_position_embeddings": CONTEXT // 2,
    "rope_theta": 1e4,
}


def proved(folder: Path, kind: str, model_type: str) -> dict[str, Any]:
    """Return the proof, or what was refused."""
    if model_type not in DECODERS:
        return written(folder, kind, model_type)
    task = "text-generation"
    model = load_another(folder, task_spec(task).auto_class)
    asked(model, kind)
    fronts = [
        open_decoder_front(
            task,
            folder,
            model,
            tokens=tokens,
            context=4 * CONTEXT * CONTEXT if kind == "long" else CONTEXT,
            stateful=kind == "state",
            head_split=150 if kind == "state" else None,
        )
        for tokens in (TOKENS, 1)
    ]
    if kind == "damaged":
        with torch.no_grad():
            model.base_model.layers[0].self_attn.k_proj.weight *= 1.05
    found = asdict(prove_decoder(fronts[0], folder, fronts[1]))
    return found | {"exported": [exported(front) for front in fronts]}


def asked(model: Any, kind: str) -> None:
    """Change the configuration to one that is refused."""
    if kind == "alibi":
        model.config.alibi = True
    if kind == "linear":
        model.config.layer_types = ["linear_attention", "full_attention"]
    if kind == "dynamic":
        model.config.original_max_position_embeddings = CONTEXT // 2
        model.config.rope_parameters = ROPE
        rotary = model.base_model.rotary_emb
        model.base_model.rotary_emb = type(rotary)(model.config)


def written(folder: Path, kind: str, model_type: str) -> dict[str, Any]:
    """Return the proof of an encoder with a decoder."""
    heard = model_type == "whisper"
    task = "automatic-speech-recognition" if heard else "text2text-generation"
    model = load_another(folder, task_spec(task).auto_class)
    fronts = open_writer_fronts(
        task,
        folder,
        model,
        {"sequence": 48},
        tokens=(8, 1),
        context=4000 if kind == "long" else 48,
        stateful=kind == "state",
    )
    found = asdict(prove_writer(task, fronts, folder))
    return found | {"exported": [exported(front) for front in fronts.decoders.values()]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    for wanted in sys.argv[2:]:
        what, name = wanted.split("=")
        place = Path(sys.argv[1]) / name
        if not place.is_dir():
            (write_decoder if name in DECODERS else write_writer)(place, name)
        try:
            told: dict[str, Any] = proved(place, what, name)
        except EdgewardError as error:
            told = {"error": type(error).__name__, "what": error.what, "why": error.why}
        print(json.dumps({"kind": what, "model_type": name, **told}), flush=True)
