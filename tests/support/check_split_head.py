"""What a head in pieces costs beside its embedding; run with the `coreml` toolchain's Python.

usage: check_split_head.py FOLDER. Writes three tiny random generators whose vocabulary is above
what the Neural Engine takes, as programs for one token: one whose head is its embedding, one that
multiplies what it looks up besides, and one with a head of its own. Prints JSON for each: bytes of
the package's weights, of the embedding in float16, how a program uses its largest constants, and
the largest difference of its logits from the original's, in the evaluator without rounding.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from edgeward.compiler.formats.coreml_options import WIDEST
from edgeward.compiler.formats.coreml_program import converted, save
from edgeward.compiler.formats.coreml_weights import weights_of
from edgeward.compiler.mil_engine import open_mode
from edgeward.compiler.mobile.decoder import open_decoder_front
from edgeward.runtimes.engines.base import EngineOptions

VOCABULARY, WIDTH = 2 * WIDEST + 100, 32
# One of each piece, and the ends of pieces.
TOKENS = (5, WIDEST - 1, WIDEST, 2 * WIDEST - 1, 2 * WIDEST, VOCABULARY - 1)


# Kind of model, and whether its head is its embedding; Gemma multiplies by the root of the width.
MODELS = {"tied": ("llama", True), "scaled": ("gemma2", True), "apart": ("llama", False)}


def model(model_type: str, *, tied: bool) -> Any:
    """A generator of one layer."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        model_type,
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=WIDTH // 2,
        tie_word_embeddings=tied,
    )
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def measured(folder: Path, name: str) -> dict[str, Any]:
    """Convert one model, and run the package."""
    model_type, tied = MODELS[name]
    original = model(model_type, tied=tied)
    with torch.no_grad():
        wanted = original(torch.tensor([TOKENS]).T).logits[:, 0].numpy()
    front = open_decoder_front(
        "text-generation", folder, original, tokens=1, context=8, stateful=False, head_split=WIDEST
    )
    made = converted(front.module, front.inputs, front.outputs, ios=16, wide=False)
    path = folder / f"{name}.mlpackage"
    save(made, path)
    uses = Counter(w.kind for w in weights_of(made._mil_program) if w.matrix.size >= WIDEST * WIDTH)
    session = open_mode(path / "Manifest.json", EngineOptions(), rounded=False)
    start = {name: np.zeros(shape, np.float32) for name, shape in front.cache.items()}
    start["position"] = np.zeros(1, np.int32)
    found = [
        session.run({"input_ids": np.array([[token]], np.int32), **start})["logits"][0, 0]
        for token in TOKENS
    ]
    return {
        "bytes": sum(one.stat().st_size for one in path.rglob("weight.bin")),
        "embedding": VOCABULARY * WIDTH * 2,
        "uses": dict(uses),
        "difference": float(np.abs(np.stack(found) - wanted).max() / wanted.std()),
    }


def main() -> None:
    folder = Path(sys.argv[1])
    print(json.dumps({name: measured(folder, name) for name in MODELS}))


if __name__ == "__main__":
    main()
