"""What a head in pieces costs beside its embedding; run with the `coreml` toolchain's Python.

usage: check_split_head.py FOLDER. Writes two tiny random generators whose vocabulary is above what
the Neural Engine takes, one whose head is its embedding and one with a head of its own, as programs
for one token. Prints JSON for each: bytes of the package's weights, of the embedding in float16,
how a program uses its largest constants, and the largest difference of its logits, in the
evaluator, from the original's.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from edgeward.compiler.formats.coreml_options import WIDEST
from edgeward.compiler.formats.coreml_program import converted, save
from edgeward.compiler.formats.coreml_weights import weights_of
from edgeward.compiler.mil_engine import open_mode
from edgeward.compiler.mobile.decoder import open_decoder_front
from edgeward.runtimes.engines.base import EngineOptions

VOCABULARY, WIDTH = 2 * WIDEST + 100, 32
# One of each piece, and the ends of pieces.
TOKENS = (5, WIDEST - 1, WIDEST, 2 * WIDEST - 1, 2 * WIDEST, VOCABULARY - 1)


def model(*, tied: bool) -> Any:
    """A llama of one layer."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=tied,
    )
    return LlamaForCausalLM(config).eval()


def measured(folder: Path, *, tied: bool) -> dict[str, Any]:
    """Convert one model, and run the package."""
    original = model(tied=tied)
    with torch.no_grad():
        wanted = original(torch.tensor([TOKENS]).T).logits[:, 0].numpy()
    front = open_decoder_front(
        "text-generation", folder, original, tokens=1, context=8, stateful=False, head_split=WIDEST
    )
    made = converted(front.module, front.inputs, front.outputs, ios=16, wide=False)
    path = folder / f"{tied}.mlpackage"
    save(made, path)
    uses = Counter(w.kind for w in weights_of(made._mil_program) if w.matrix.size >= WIDEST * WIDTH)
    session = open_mode(path / "Manifest.json", EngineOptions(), rounded=True)
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
    found = {name: measured(folder, tied=name == "tied") for name in ("tied", "apart")}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
