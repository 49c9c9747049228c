"""The dequantised model against llama.cpp's own run of the GGUF file; runs where llama.cpp is.

Ids have to be equal. Distributions are not: llama.cpp rounds activations to 8 bits where weights
are quantised (SmolLM2 in Q4_1: KL 0.003 nats, 95 % of likeliest tokens). Rows in a wrong order are
off by nats in a trained model, by hundredths and 40 % of the likeliest tokens in a random one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import ProofError, SourceError

from .dequantise_gguf_torch import IDS_NAME, MOST_TOKENS, OUTPUT_NAME
from .stage_context import StageContext
from .tasks import FEATURE_EXTRACTION


class Bounds(NamedTuple):
    """The largest mean KL in nats, the least share of equal likeliest tokens, the least cosine."""

    kl: float
    top1: float
    cosine: float


OF_FLOATS, OF_QUANTISED = Bounds(1e-3, 0.95, 0.999), Bounds(0.02, 0.8, 0.99)
_LOSS = "the file is read in another way than llama.cpp reads it"
Floats = NDArray[np.float32]


def check(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Compare ids and outputs; ProofError where they differ.

    Metrics: `tokens` that were compared; `kl_mean` in nats and `top1` for a generator, `cosine` for
    an encoder.
    """
    cases = json.loads((context.inputs["torch"] / IDS_NAME).read_text(encoding="utf-8"))
    torch = np.load(context.inputs["torch"] / OUTPUT_NAME)
    encodes = params["task"] == FEATURE_EXTRACTION
    llama = _open(context.inputs["gguf"], encodes)
    _compare_ids(llama, cases)
    context.metric("tokens", sum(len(case["ids"]) for case in cases))
    context.progress(0.5, "ids are equal")
    ids = cases[-1]["ids"][: len(torch)]
    bounds = OF_QUANTISED if params["quantised"] else OF_FLOATS
    if encodes:
        return _compare_vectors(context, _states(llama, ids), torch, bounds)
    return _compare_logits(context, _logits(llama, ids), torch, bounds)


def _open(path: Path, encodes: bool) -> Any:
    import llama_cpp

    try:
        return llama_cpp.Llama(
            str(path),
            n_ctx=MOST_TOKENS,
            n_batch=MOST_TOKENS,
            n_ubatch=MOST_TOKENS,
            n_threads=1,
            n_threads_batch=1,
            n_gpu_layers=0,
            logits_all=not encodes,
            embedding=encodes,
            pooling_type=llama_cpp.LLAMA_POOLING_TYPE_NONE,
            type_k=0,
            type_v=0,
            flash_attn=False,
            verbose=False,
        )
    except (ValueError, RuntimeError) as error:
        raise SourceError(f"llama.cpp cannot load {path}", why=str(error)[:300]) from error


def _compare_ids(llama: Any, cases: Sequence[Mapping[str, Any]]) -> None:
    for case in cases:
        theirs = list(llama.tokenize(case["text"].encode(), add_bos=True, special=True))
        if theirs != case["ids"]:
            at = next(
                (
                    n
                    for n, pair in enumerate(zip(theirs, case["ids"], strict=False))
                    if pair[0] != pair[1]
                ),
                min(len(theirs), len(case["ids"])),
            )
            raise ProofError(
                "the tokenizer made from the GGUF file gives other tokens than llama.cpp",
                why=f"{case['text'][:60]!r} at token {at}: {case['ids'][at : at + 5]} is "
                f"{theirs[at : at + 5]} there",
            )


def _logits(llama: Any, ids: Sequence[int]) -> Floats:
    llama.reset()
    llama.eval(list(ids))
    return np.asarray(llama.scores[: len(ids)], np.float32)


def _states(llama: Any, ids: Sequence[int]) -> Floats:
    """Return the last hidden states (tokens, hidden): pooling is switched off."""
    import llama_cpp

    tokens = (llama_cpp.llama_token * len(ids))(*ids)
    batch = llama_cpp.llama_batch_get_one(tokens, len(ids))
    if llama_cpp.llama_encode(llama._ctx.ctx, batch):
        raise SourceError("llama.cpp cannot run the encoder")
    width = llama.n_embd()
    rows = [llama_cpp.llama_get_embeddings_ith(llama._ctx.ctx, n)[:width] for n in range(len(ids))]
    return np.asarray(rows, np.float32)


def _compare_logits(
    context: StageContext, theirs: Floats, torch: Floats, bounds: Bounds
) -> dict[str, Any]:
    mine, others = _log_shares(torch), _log_shares(theirs[:, : torch.shape[1]])
    divergence = float(np.sum(np.exp(others) * (others - mine), axis=1).mean())
    agreement = float((mine.argmax(axis=1) == others.argmax(axis=1)).mean())
    context.metric("kl_mean", divergence)
    context.metric("top1", agreement)
    if not (divergence <= bounds.kl and agreement >= bounds.top1):
        raise ProofError(
            f"the dequantised model departs from the GGUF file: KL {divergence:.4g} nats, "
            f"{agreement:.1%} of the likeliest tokens",
            why=f"not within {bounds.kl:g} and {bounds.top1:.0%}: {_LOSS}",
        )
    return {"summary": f"ids equal, KL {divergence:.2e} nats, top-1 {agreement:.3f}"}


def _compare_vectors(
    context: StageContext, theirs: Floats, torch: Floats, bounds: Bounds
) -> dict[str, Any]:
    lengths = np.linalg.norm(theirs, axis=1) * np.linalg.norm(torch, axis=1)
    cosine = float((np.sum(theirs * torch, axis=1) / lengths).min())
    context.metric("cosine", cosine)
    if not cosine >= bounds.cosine:
        raise ProofError(
            f"the dequantised encoder departs from the GGUF file: cosine {cosine:.4f}",
            why=f"less than {bounds.cosine}: {_LOSS}",
        )
    return {"summary": f"ids equal, cosine {cosine:.5f}"}


def _log_shares(logits: Floats) -> NDArray[np.float64]:
    raised = logits.astype(np.float64)
    raised -= raised.max(axis=1, keepdims=True)
    shares: NDArray[np.float64] = raised - np.log(np.exp(raised).sum(axis=1, keepdims=True))
    return shares
