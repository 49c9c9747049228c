"""Which type each tensor of a GGUF file gets: llama.cpp's mixes, restated from its source.

Source: llama.cpp src/llama-quant.cpp, `llama_tensor_get_type_impl` and `tensor_type_fallback`;
block sizes from gguf-py's GGML_QUANT_SIZES.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from edgeward.runtimes.bundle.gguf_types import TENSOR_TYPES

from .facts import ModelFacts, Tensor
from .roles import kind_of, layer_of

# type -> weights a block, bytes a block
BLOCKS: Mapping[str, tuple[int, int]] = {
    kind.name.lower(): (kind.block, kind.size) for kind in TENSOR_TYPES.values()
}
# file type -> the type of whatever its rules do not name
MIXES: Mapping[str, str] = {
    "f32": "f32",
    "f16": "f16",
    "bf16": "bf16",
    "q8_0": "q8_0",
    "q6_k": "q6_k",
    "q5_k_m": "q5_k",
    "q5_k_s": "q5_k",
    "q5_1": "q5_1",
    "q5_0": "q5_0",
    "q4_k_m": "q4_k",
    "q4_k_s": "q4_k",
    "q4_1": "q4_1",
    "q4_0": "q4_0",
    "iq4_nl": "iq4_nl",
    "iq4_xs": "iq4_xs",
    "q3_k_l": "q3_k",
    "q3_k_m": "q3_k",
    "q3_k_s": "q3_k",
    "q2_k": "q2_k",
    "iq3_m": "iq3_s",
    "iq3_s": "iq3_s",
    "iq3_xs": "iq3_s",
    "iq3_xxs": "iq3_xxs",
    "iq2_m": "iq2_s",
    "iq2_s": "iq2_xs",
    "iq2_xs": "iq2_xs",
    "iq2_xxs": "iq2_xxs",
    "iq1_m": "iq1_m",
    "iq1_s": "iq1_s",
    "mxfp4_moe": "mxfp4",
}
_SMALLER = {
    **dict.fromkeys(
        ("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_xs"), "iq4_nl"
    ),
    **dict.fromkeys(("q2_k", "q3_k", "tq1_0", "tq2_0"), "q4_0"),
    "q4_k": "q5_0",
    "q5_k": "q5_1",
    "q6_k": "q8_0",
}
_TINY = frozenset({"iq2_xxs", "iq2_xs", "iq2_s", "iq2_m", "iq1_s", "iq1_m"})
_EIGHT = 8
_CATEGORIES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("qkv", re.compile(r"qkv|c_attn|query_key_value|Wqkv")),
    ("kv_b", re.compile(r"kv_b_proj|attn_kv_b")),
    ("v", re.compile(r"\bv_proj|attn_v\b|attention\.self\.value|\bv\.weight|v_lin")),
    ("k", re.compile(r"\bk_proj|attn_k\b|attention\.self\.key|\bk\.weight|k_lin")),
    ("q", re.compile(r"\bq_proj|attn_q\b|attention\.self\.query|\bq\.weight|q_lin")),
    (
        "attn_out",
        re.compile(
            r"o_proj|attn_output|attention\.output|out_proj|attn\.c_proj|out_lin|attention\.dense"
            r"|self_attn\.dense"
        ),
    ),
    (
        "down",
        re.compile(
            r"down_proj|ffn_down|\bw2\b|fc2|mlp\.c_proj|dense_4h_to_h|output\.dense|lin2|\bwo\b"
        ),
    ),
    ("gate", re.compile(r"gate_proj|ffn_gate|\bw1\b")),
    ("up", re.compile(r"up_proj|ffn_up|\bw3\b|fc1|c_fc|dense_h_to_4h|intermediate|lin1|\bwi\b")),
)
_KEPT = re.compile(r"mlp\.gate\.|block_sparse_moe\.gate\.|router|ffn_gate_inp|position|token_type")


def category(name: str) -> str:
    """Return what llama.cpp's mixes call a tensor: q, k, v, qkv, attn_out, up, gate, down, …"""
    kind = kind_of(name)
    if kind == "head":
        return "output"
    if kind == "embedding":
        return "token_embd"
    return next((found for found, pattern in _CATEGORIES if pattern.search(name)), "other")


def file_types(facts: ModelFacts, mix: str) -> Iterator[tuple[Tensor, str]]:
    """Give each tensor with the type that it has in a file of this mix; KeyError for none such."""
    plan = _Mix(facts, mix)
    for tensor in facts.tensors:
        yield tensor, plan.type_of(tensor)


def size_of(tensor: Tensor, type_name: str) -> int:
    """Return the bytes that a tensor takes in a type."""
    block, size = BLOCKS[type_name]
    return -(-tensor.count // block) * size


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor stands among those of its category."""

    number: int
    count: int

    @property
    def wants_more(self) -> bool:
        """llama.cpp's use_more_bits: the first and last eighth, every third between."""
        eighth = self.count // 8
        middle = (self.number - eighth) % 3 == 2 and self.number >= eighth
        return self.number < eighth or self.number >= 7 * self.count // 8 or middle


class _Mix:
    """The rules of one file type over one model's tensors."""

    def __init__(self, facts: ModelFacts, mix: str) -> None:
        self._mix, self._base = mix, MIXES[mix]
        self._experts = facts.experts
        self._grouped = facts.heads // max(1, facts.kv_heads)
        self._tied = facts.tied
        self._falcon = facts.model_type == "falcon"
        self._is_70b = facts.layers == 80 and facts.heads != facts.kv_heads
        self._layers = facts.layers

    def type_of(self, tensor: Tensor) -> str:
        """Return the type of a tensor, one that its columns allow."""
        if not tensor.is_matrix or kind_of(tensor.name) == "other":
            return "f32"
        if _KEPT.search(tensor.name):
            return "f32"
        if self._base in ("f32", "f16", "bf16"):
            return self._base
        return _fallback(self._wanted(tensor), tensor.columns)

    def _wanted(self, tensor: Tensor) -> str:
        found = category(tensor.name)
        place = _Place(layer_of(tensor.name) or 0, max(1, self._layers))
        if found == "output" or (found == "token_embd" and self._tied):
            return self._output(tensor.columns)
        if self._mix == "mxfp4_moe":
            return "mxfp4" if tensor.copies > 1 or kind_of(tensor.name) == "experts" else "q8_0"
        if found == "token_embd":
            return _EMBEDDING.get(self._mix, self._base)
        if self._mix in _TINY:
            return self._tiny(found, place)
        if found in ("v", "qkv", "kv_b"):
            return self._value(place)
        if found == "down":
            return self._down(place)
        return self._rest(found, place)

    def _output(self, columns: int) -> str:
        if self._mix == "mxfp4_moe" or self._falcon or columns % BLOCKS[self._base][0]:
            return "q8_0"
        if self._mix in _TINY or self._mix == "iq3_xxs":
            return "q5_k"
        return "q8_0" if self._base == "q8_0" else "q6_k"

    def _tiny(self, found: str, place: _Place) -> str:
        better = "iq3_s" if self._mix in ("iq2_s", "iq2_m") else "q2_k"
        if found in ("v", "qkv", "kv_b"):
            return "q4_k" if self._grouped >= 4 or self._experts >= 4 else better
        if found == "k" and self._experts == _EIGHT:
            return "q4_k"
        if found == "down" and place.number < place.count // 8:
            return better
        if found == "attn_out" and self._experts == _EIGHT:
            return "q5_k"
        if found == "attn_out" and self._mix in ("iq1_s", "iq1_m"):
            return "iq2_xxs"
        return "iq3_s" if found == "attn_out" and better == "iq3_s" else self._base

    def _value(self, place: _Place) -> str:
        """Values are the most sensitive; fused projections and MLA's second one count as such."""
        wanted = self._value_before_size(place)
        if self._is_70b and wanted in ("q3_k", "q4_k"):
            wanted = "q5_k"
        return "q8_0" if self._experts == _EIGHT else wanted

    def _value_before_size(self, place: _Place) -> str:
        mix, many = self._mix, self._grouped >= 4
        if mix == "q2_k":
            return "q4_k" if many else "q3_k"
        if mix == "iq3_xxs":
            return "q4_k" if many else "iq3_s"
        if mix in ("iq3_xs", "iq3_s") and many:
            return "q4_k"
        if mix == "q3_k_m":
            return "q5_k" if place.number < 2 else "q4_k"
        if mix in ("iq4_nl", "iq4_xs") and many:
            return "q5_k"
        if mix in ("q4_k_m", "q5_k_m") and place.wants_more:
            return "q6_k"
        if mix == "q4_k_s" and place.number < 4:
            return "q5_k"
        return {"iq3_m": "q4_k", "q3_k_l": "q5_k"}.get(mix, self._base)

    def _down(self, place: _Place) -> str:
        mix, is_early = self._mix, place.number < place.count // 8
        if mix in ("q4_k_m", "q5_k_m"):
            return self._down_medium(place)
        if mix == "q3_k_m":
            return "q5_k" if place.number < place.count // 16 else "q4_k"
        if mix == "iq3_xxs":
            return "q4_k" if is_early else "q3_k"
        if mix == "iq3_m" and is_early:
            return "q4_k"
        if mix in ("iq4_nl", "iq4_xs", "q4_k_s") and is_early and not self._falcon:
            return "q5_k"
        return {"q2_k": "q3_k", "q3_k_l": "q4_k" if self._falcon else "q5_k"}.get(mix, self._base)

    def _down_medium(self, place: _Place) -> str:
        if self._falcon and self._mix == "q4_k_m":
            if place.number < place.count // 16:
                return "q6_k"
            return "q5_k" if place.wants_more else "q4_k"
        return "q6_k" if place.wants_more else self._base

    def _rest(self, found: str, place: _Place) -> str:
        mix = self._mix
        if found == "attn_out" and not self._falcon:
            if self._experts == _EIGHT:
                return "q5_k" if mix in _FIVE_IN_EIGHT else self._base
            return _ATTENTION_OUT.get(mix, self._base)
        if found == "k" and self._experts == _EIGHT:
            return "q8_0"
        if found in ("q", "k") and mix in ("iq3_xs", "iq3_xxs"):
            return "iq3_xxs" if mix == "iq3_xs" else "iq2_s"
        if found in ("gate", "up") and mix == "iq3_xs":
            is_middle = place.count // 8 <= place.number < 7 * place.count // 8
            return "iq3_xxs" if is_middle else self._base
        return self._base


_FIVE_IN_EIGHT = frozenset(
    {"q2_k", "iq3_xs", "iq3_xxs", "q3_k_s", "q3_k_m", "iq4_nl", "q4_k_s", "q4_k_m", "iq3_s"}
    | {"iq3_m", "iq4_xs"}
)
_ATTENTION_OUT = {
    "q2_k": "q3_k",
    "iq3_xxs": "iq3_s",
    "q3_k_m": "q4_k",
    "q3_k_l": "q5_k",
    "iq3_m": "q4_k",
}
_EMBEDDING = {
    **dict.fromkeys(("iq2_xxs", "iq2_xs", "iq1_s", "iq1_m"), "q2_k"),
    **dict.fromkeys(("iq2_s", "iq2_m", "iq3_xxs"), "iq3_s"),
}


def _fallback(wanted: str, columns: int) -> str:
    if columns % BLOCKS[wanted][0] == 0:
        return wanted
    smaller = _SMALLER.get(wanted, wanted)
    return smaller if columns % BLOCKS[smaller][0] == 0 else "f16"


def total(pairs: Iterable[tuple[Tensor, str]]) -> int:
    """Return the bytes of tensors in their types."""
    return sum(size_of(tensor, type_name) for tensor, type_name in pairs)
