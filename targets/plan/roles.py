"""What a tensor is for, from its name as checkpoints and GGUF files write it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from .facts import Tensor

_NORM = re.compile(r"norm|ln_|\bln\d|layer_scale", re.IGNORECASE)
_RULES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("other", re.compile(r"layer_scale|logit_scale|rope_freqs|\.sinks\b|attn_sinks")),
    ("experts", re.compile(r"\bexperts\.|_exps\b")),
    (
        "head",
        re.compile(
            r"^(lm_head|output|embed_out|score|classifier|proj_out|qa_outputs|pooler|cls)\b"
            r"|\b(lm_head|pooler|text_projection|visual_projection)\b"
        ),
    ),
    (
        "embedding",
        re.compile(
            r"embed_tokens|embed_positions|embeddings|\bembeddings?\b|\bwte\b|\bwpe\b|token_embd"
            r"|position_embd|token_types|patch_embed|(^|\.)shared\b|relative_attention_bias|embed_in"
            r"|\bconv[12]\b|\bpos_embed\b"
        ),
    ),
    ("attention", re.compile(r"attn|attention", re.IGNORECASE)),
    (
        "mlp",
        re.compile(
            r"mlp|ffn|feed_forward|\bfc[12]\b|intermediate|output\.dense|DenseReluDense"
            r"|shared_expert|block_sparse_moe|multi_modal_projector"
        ),
    ),
)
_VISION = re.compile(r"(^|\.)(vision_\w+|visual\w*|vision|image_encoder|v\.blk|multi_modal_\w+)\.")
_AUDIO = re.compile(r"(^|\.)(audio_\w+|audio)\.")
_ENCODER = re.compile(r"(^|\.)(encoder|enc)\.")
_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?|blk)\.(\d+)\.")


@lru_cache(maxsize=1 << 16)
def kind_of(name: str) -> str:
    """Return one of `facts.KINDS`: what a tensor of this name does."""
    if _NORM.search(name):
        return "other"
    return next((kind for kind, pattern in _RULES if pattern.search(name)), "other")


@lru_cache(maxsize=1 << 16)
def tower_of(name: str, model_kind: str) -> str:
    """Return one of `facts.TOWERS`: the part of a model of this kind that a tensor stands in."""
    if model_kind == "vision" or _VISION.search(name):
        return "vision"
    if _AUDIO.search(name):
        return "audio"
    if model_kind == "encoder" or (model_kind == "encoder-decoder" and _ENCODER.search(name)):
        return "encoder"
    return "decoder"


def layer_of(name: str) -> int | None:
    """Return the number of the layer that a tensor stands in, None where it stands in none."""
    found = _LAYER.search(name)
    return int(found[1][:6]) if found else None


def split(tensors: Iterable[Tensor], model_kind: str) -> dict[str, int]:
    """Return parameters by part: what the main tower's tensors do, and the other towers whole."""
    main = {"encoder": "encoder", "vision": "vision"}.get(model_kind, "decoder")
    parts: dict[str, int] = {}
    for tensor in tensors:
        tower = tower_of(tensor.name, model_kind)
        part = kind_of(tensor.name) if tower == main else tower
        parts[part] = parts.get(part, 0) + tensor.count
    return parts
