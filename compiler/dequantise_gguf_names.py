"""Where each tensor of a GGUF file belongs in a Hugging Face checkpoint, and how it was changed.

The names on the left are llama.cpp's (gguf-py's `constants.py`), without the block's `blk.N.`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from edgeward.errors import SourceError, UnsupportedError

from .source_gguf_header import GgufHeader, GgufTensor

PERMUTED_Q, PERMUTED_KV = "permuted-q", "permuted-kv"
TRANSPOSED, SHIFTED, ROW = "transposed", "shifted", "row"
_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")
_IGNORED = re.compile(r"rope_(freqs|factors_long|factors_short)\.weight|blk\.\d+\.attn_rot_embd")


@dataclass(frozen=True, slots=True)
class Names:
    """An architecture's names: outside of blocks, inside (`{n}`: block, `{e}`: expert), changes.

    `changes` says by llama.cpp's name what has to be undone: `permuted-q` and `permuted-kv` (rows
    for another rotary order), `transposed`, `shifted` (one was added), `row` (a first axis of one
    was dropped).
    """

    outer: Mapping[str, str]
    inner: Mapping[str, str]
    changes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Placement:
    """One tensor of the checkpoint: which tensor it is of, which part, and what has to be undone.

    `expert` is the index on the first axis, None for the whole; `shape` is the checkpoint's.
    """

    name: str
    tensor: GgufTensor
    shape: tuple[int, ...]
    change: str = ""
    expert: int | None = None


_OUTER = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_ATTENTION = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}
_QK_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_MLP = {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
_DENSE = {**_ATTENTION, "ffn_norm": "post_attention_layernorm", **_MLP}
_EXPERTS = {
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_exps": "mlp.experts.{e}.gate_proj",
    "ffn_up_exps": "mlp.experts.{e}.up_proj",
    "ffn_down_exps": "mlp.experts.{e}.down_proj",
}
_SHARED_EXPERT = {
    "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
    "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
    "ffn_up_shexp": "mlp.shared_expert.up_proj",
    "ffn_down_shexp": "mlp.shared_expert.down_proj",
}
_MIXTRAL = {
    "ffn_gate_inp": "block_sparse_moe.gate",
    "ffn_gate_exps": "block_sparse_moe.experts.{e}.w1",
    "ffn_down_exps": "block_sparse_moe.experts.{e}.w2",
    "ffn_up_exps": "block_sparse_moe.experts.{e}.w3",
}
_SANDWICH = {
    **_ATTENTION,
    **_QK_NORMS,
    **_MLP,
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_PERMUTED = {"attn_q": PERMUTED_Q, "attn_k": PERMUTED_KV}
_SHIFTED_NORMS = dict.fromkeys(
    (
        "output_norm",
        "attn_norm",
        "ffn_norm",
        "attn_q_norm",
        "attn_k_norm",
        "post_attention_norm",
        "post_ffw_norm",
    ),
    SHIFTED,
)


def _layers(names: Mapping[str, str]) -> dict[str, str]:
    return {key: f"model.layers.{{n}}.{name}" for key, name in names.items()}


_PLAIN = Names(_OUTER, _layers({**_DENSE, **_QK_NORMS}))
NAMES: dict[str, Names] = {
    "llama": Names(_OUTER, _layers(_DENSE), _PERMUTED),
    "smollm3": Names(_OUTER, _layers(_DENSE), _PERMUTED),
    "granite": Names(_OUTER, _layers(_DENSE), _PERMUTED),
    "mixtral": Names(_OUTER, _layers({**_DENSE, **_MIXTRAL}), _PERMUTED),
    "qwen2": _PLAIN,
    "qwen3": _PLAIN,
    "qwen2_moe": Names(
        _OUTER, _layers({**_DENSE, **_EXPERTS, **_SHARED_EXPERT}), {"ffn_gate_inp_shexp": ROW}
    ),
    "qwen3_moe": Names(_OUTER, _layers({**_DENSE, **_QK_NORMS, **_EXPERTS})),
    "gemma": Names(_OUTER, _layers(_DENSE), _SHIFTED_NORMS),
    "gemma2": Names(_OUTER, _layers(_SANDWICH), _SHIFTED_NORMS),
    "gemma3_text": Names(_OUTER, _layers(_SANDWICH), _SHIFTED_NORMS),
    "olmo2": Names(
        _OUTER,
        _layers(
            {
                **_ATTENTION,
                **_QK_NORMS,
                **_MLP,
                "post_attention_norm": "post_attention_layernorm",
                "post_ffw_norm": "post_feedforward_layernorm",
            }
        ),
    ),
    "phi3": Names(
        _OUTER,
        _layers(
            {
                "attn_norm": "input_layernorm",
                "attn_qkv": "self_attn.qkv_proj",
                "attn_output": "self_attn.o_proj",
                "ffn_norm": "post_attention_layernorm",
                "ffn_up": "mlp.gate_up_proj",
                "ffn_down": "mlp.down_proj",
            }
        ),
    ),
    "starcoder2": Names(
        _OUTER,
        _layers(
            {
                **_ATTENTION,
                "ffn_norm": "post_attention_layernorm",
                "ffn_up": "mlp.c_fc",
                "ffn_down": "mlp.c_proj",
            }
        ),
    ),
    "gpt2": Names(
        {
            "token_embd": "transformer.wte",
            "position_embd": "transformer.wpe",
            "output_norm": "transformer.ln_f",
            "output": "lm_head",
        },
        {
            "attn_norm": "transformer.h.{n}.ln_1",
            "attn_qkv": "transformer.h.{n}.attn.c_attn",
            "attn_output": "transformer.h.{n}.attn.c_proj",
            "ffn_norm": "transformer.h.{n}.ln_2",
            "ffn_up": "transformer.h.{n}.mlp.c_fc",
            "ffn_down": "transformer.h.{n}.mlp.c_proj",
        },
        dict.fromkeys(("attn_qkv", "attn_output", "ffn_up", "ffn_down"), TRANSPOSED),
    ),
    "bert": Names(
        {
            "token_embd": "embeddings.word_embeddings",
            "token_types": "embeddings.token_type_embeddings",
            "position_embd": "embeddings.position_embeddings",
            "token_embd_norm": "embeddings.LayerNorm",
        },
        {
            "attn_q": "encoder.layer.{n}.attention.self.query",
            "attn_k": "encoder.layer.{n}.attention.self.key",
            "attn_v": "encoder.layer.{n}.attention.self.value",
            "attn_output": "encoder.layer.{n}.attention.output.dense",
            "attn_output_norm": "encoder.layer.{n}.attention.output.LayerNorm",
            "ffn_up": "encoder.layer.{n}.intermediate.dense",
            "ffn_down": "encoder.layer.{n}.output.dense",
            "layer_output_norm": "encoder.layer.{n}.output.LayerNorm",
        },
    ),
}


def placements(header: GgufHeader, model_type: str, *, tied: bool) -> list[Placement]:
    """Return every tensor of the checkpoint, in the file's order.

    `tied` leaves out a head that only repeats the embedding. Raises UnsupportedError for a tensor
    that the architecture has no place for, SourceError for one whose shape cannot be undone.
    """
    names = NAMES[model_type]
    found: list[Placement] = []
    for tensor in header.tensors:
        if _IGNORED.match(tensor.name) or (tied and tensor.name == "output.weight"):
            continue
        found += _placed(tensor, names, model_type)
    return found


def _placed(tensor: GgufTensor, names: Names, model_type: str) -> Iterator[Placement]:
    stem, _, suffix = tensor.name.rpartition(".")
    block = _BLOCK.fullmatch(stem)
    key = block.group(2) if block else stem
    template = names.inner.get(key) if block else names.outer.get(key)
    if template is None or suffix not in ("weight", "bias"):
        raise UnsupportedError(
            f"the tensor {tensor.name[:80]} has no place in a {model_type} checkpoint",
            why="the file holds more than the class of that model type has",
        )
    number = int(block.group(1)) if block else 0
    change = names.changes.get(key, "")
    if "{e}" not in template:
        name = f"{template.format(n=number)}.{suffix}"
        yield Placement(name, tensor, _changed_shape(tensor, change), change)
        return
    if len(tensor.shape) != 3:
        raise SourceError(f"{tensor.name[:80]} does not stack experts", why=f"{tensor.shape}")
    for expert in range(tensor.shape[0]):
        name = f"{template.format(n=number, e=expert)}.{suffix}"
        yield Placement(name, tensor, tensor.shape[1:], "", expert)


def _changed_shape(tensor: GgufTensor, change: str) -> tuple[int, ...]:
    if change == TRANSPOSED:
        return tuple(reversed(tensor.shape))
    if change == ROW and len(tensor.shape) == 1:
        return (1, *tensor.shape)
    return tensor.shape
