"""What the dequantised model makes of a text in torch, and its tokenizer of the hard texts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.errors import SourceError
from edgeward.runtimes.tasks.tokens import token_limit

from .dequantise_gguf_texts import HARD_TEXTS, NOT_FOR_WORDS, TEXT, with_special
from .reference_model import load_model
from .stage_context import StageContext
from .tasks import FEATURE_EXTRACTION

IDS_NAME, OUTPUT_NAME = "ids.json", "output.npy"
MOST_TOKENS = 256


def shown_tokens(folder: Path) -> int:
    """Return how many tokens of the text are run: not more than the model has positions."""
    return min(MOST_TOKENS, token_limit(folder) or MOST_TOKENS)


def run(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write `ids.json` (text and ids, the last is the one that was run) and `output.npy`.

    The output is float32 of (tokens, vocabulary) for a generator, of (tokens, hidden) for an
    encoder. Raises SourceError where weights are missing, left over or not finite.
    """
    import torch
    from tokenizers import Tokenizer

    folder = context.inputs["source"]
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:
        raise SourceError("the vocabulary gives no tokenizer", why=str(error)[:300]) from error
    added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    skipped = NOT_FOR_WORDS if params["task"] == FEATURE_EXTRACTION else ()
    hard = tuple(text for text in HARD_TEXTS if text not in skipped)
    texts = [*with_special(hard, added), TEXT]
    ids = [tokenizer.encode(text).ids for text in texts]
    context.progress(0.2, "tokens")
    encodes = params["task"] == FEATURE_EXTRACTION
    model = load_model(folder, "AutoModel" if encodes else "AutoModelForCausalLM")
    shown = torch.tensor([ids[-1][: shown_tokens(folder)]])
    context.progress(0.6, "one text")
    with torch.inference_mode():
        answer = model(input_ids=shown)
    output = (answer.last_hidden_state if encodes else answer.logits)[0].float().numpy()
    if not np.isfinite(output).all():
        raise SourceError("the dequantised model gives numbers that are not finite")
    np.save(context.out / OUTPUT_NAME, output)
    document = [{"text": text, "ids": each} for text, each in zip(texts, ids, strict=True)]
    (context.out / IDS_NAME).write_text(json.dumps(document), encoding="utf-8")
    return {"summary": f"{sum(map(len, ids))} tokens, {len(output)} of them run in torch"}
