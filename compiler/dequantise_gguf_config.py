"""A GGUF file's metadata as the config.json of its Hugging Face class."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import UnsupportedError

from .source_gguf_header import GgufHeader

Config = dict[str, Any]

_LLAMA3_ROTARY = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
_NO_POOLING = 0


def model_config(header: GgufHeader) -> Config:
    """Return the configuration; UnsupportedError for what its class cannot be told."""
    architecture = header.text("general.architecture")
    if architecture not in _MAKERS:
        raise UnsupportedError(
            f"{header.path} is of the architecture {architecture[:80] or 'unnamed'!r}",
            why=f"GGUF files are read of: {', '.join(_MAKERS)}",
            next="edgeward compile the original Hugging Face folder",
        )
    config = _MAKERS[architecture](_Facts(header, architecture))
    return {**config, "dtype": "float32"}


class _Facts:
    """Metadata below the architecture's prefix."""

    def __init__(self, header: GgufHeader, architecture: str) -> None:
        self.header, self._prefix = header, architecture

    def integer(self, key: str, default: int | None = None) -> int:
        return self.header.integer(f"{self._prefix}.{key}", default)

    def number(self, key: str, default: float | None = None) -> float:
        """The shortest number that is the stored float32: 1e-05, not 9.999999747378752e-06."""
        return float(str(np.float32(self.header.number(f"{self._prefix}.{key}", default))))

    def text(self, key: str) -> str:
        return self.header.text(f"{self._prefix}.{key}")

    def has(self, key: str) -> bool:
        return f"{self._prefix}.{key}" in self.header.metadata

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape; UnsupportedError where the file has none."""
        tensor = self.header.tensor(name)
        if tensor is None:
            raise UnsupportedError(
                f"{self.header.path} has no tensor {name}",
                why="it may be an adapter, a projector or a vocabulary alone",
            )
        return tensor.shape

    def holds(self, name: str) -> bool:
        return self.header.tensor(name) is not None

    @property
    def heads(self) -> int:
        return self.integer("attention.head_count")

    @property
    def head_width(self) -> int:
        width = self.integer("embedding_length") // max(1, self.heads)
        return self.integer("attention.key_length", self.integer("rope.dimension_count", width))

    def factors(self, name: str) -> NDArray[np.float32] | None:
        """A small float32 tensor's numbers, None where there is none."""
        tensor = self.header.tensor(name)
        if tensor is None or tensor.type.name != "F32" or len(tensor.shape) != 1:
            return None
        return np.fromfile(tensor.path, np.dtype("<f4"), tensor.elements, offset=tensor.offset)


def _decoder(facts: _Facts, model_type: str, architecture: str) -> Config:
    return {
        "model_type": model_type,
        "architectures": [architecture],
        "hidden_size": facts.integer("embedding_length"),
        "num_hidden_layers": facts.integer("block_count"),
        "intermediate_size": facts.integer("feed_forward_length", 0),
        "num_attention_heads": facts.heads,
        "num_key_value_heads": facts.integer("attention.head_count_kv", facts.heads),
        "max_position_embeddings": facts.integer("context_length"),
        "vocab_size": facts.shape("token_embd.weight")[0],
        "rope_parameters": _rotary(facts),
        "tie_word_embeddings": not facts.holds("output.weight"),
        "attention_bias": facts.holds("blk.0.attn_q.bias"),
    }


def _rms(facts: _Facts, model_type: str, architecture: str) -> Config:
    config = _decoder(facts, model_type, architecture)
    _refuse_pooled(facts)
    return {
        **config,
        "head_dim": facts.head_width,
        "rms_norm_eps": facts.number("attention.layer_norm_rms_epsilon"),
        "hidden_act": "silu",
    }


def _refuse_pooled(facts: _Facts) -> None:
    if facts.integer("pooling_type", _NO_POOLING) not in (_NO_POOLING, -1):
        raise UnsupportedError(
            f"{facts.header.path} is a decoder that gives vectors",
            why="decoders are taken for text generation alone",
        )


def _rotary(facts: _Facts) -> Config:
    rotary: Config = {"rope_type": "default", "rope_theta": facts.number("rope.freq_base", 10000.0)}
    kind = facts.text("rope.scaling.type")
    if kind in ("linear", "yarn"):
        rotary |= {"rope_type": kind, "factor": facts.number("rope.scaling.factor")}
    elif kind not in ("", "none", "longrope"):
        raise UnsupportedError(f"{facts.header.path} scales its positions by {kind[:40]!r}")
    if kind == "yarn":
        length = facts.integer("rope.scaling.original_context_length")
        rotary["original_max_position_embeddings"] = length
        for stored, name in (
            ("attn_factor", "attention_factor"),
            ("yarn_attn_factor", "attention_factor"),
            ("yarn_beta_fast", "beta_fast"),
            ("yarn_beta_slow", "beta_slow"),
        ):
            if facts.has(f"rope.scaling.{stored}"):
                rotary[name] = facts.number(f"rope.scaling.{stored}")
    factors = facts.factors("rope_freqs.weight")
    return rotary if factors is None else _llama3_rotary(facts, rotary, factors)


def _llama3_rotary(facts: _Facts, rotary: Config, factors: NDArray[np.float32]) -> Config:
    """Llama 3's factors are stored, not what they were made of: found again, or refused."""
    made = {**rotary, "rope_type": "llama3", "factor": float(factors.max()), **_LLAMA3_ROTARY}
    wanted = _llama3_factors(made, 2 * len(factors))
    if not np.allclose(wanted, factors, rtol=1e-5):
        raise UnsupportedError(
            f"{facts.header.path} scales its positions by factors of its own",
            why="they are not those of Llama 3's rule, and no other is known to its class",
        )
    return made


def _llama3_factors(rotary: Mapping[str, Any], width: int) -> NDArray[np.float32]:
    """What each frequency is divided by (Llama 3.1's `apply_scaling`)."""
    low, high = rotary["low_freq_factor"], rotary["high_freq_factor"]
    length, factor = rotary["original_max_position_embeddings"], rotary["factor"]
    frequency = 1.0 / rotary["rope_theta"] ** (np.arange(0, width, 2, dtype=np.float64) / width)
    wavelength = 2 * math.pi / frequency
    smooth = (length / wavelength - low) / (high - low)
    found = 1 / ((1 - smooth) / factor + smooth)
    found = np.where(wavelength < length / high, 1.0, found)
    return np.where(wavelength > length / low, factor, found).astype(np.float32)


def _llama(facts: _Facts) -> Config:
    if facts.integer("expert_count", 0):
        return {
            **_rms(facts, "mixtral", "MixtralForCausalLM"),
            "num_local_experts": facts.integer("expert_count"),
            "num_experts_per_tok": facts.integer("expert_used_count"),
            "sliding_window": None,
        }
    mlp_bias = facts.holds("blk.0.ffn_up.bias")
    return {**_rms(facts, "llama", "LlamaForCausalLM"), "mlp_bias": mlp_bias}


def _granite(facts: _Facts) -> Config:
    return {
        **_rms(facts, "granite", "GraniteForCausalLM"),
        "attention_multiplier": facts.number("attention.scale", 1.0),
        "embedding_multiplier": facts.number("embedding_scale", 1.0),
        "residual_multiplier": facts.number("residual_scale", 1.0),
        "logits_scaling": facts.number("logit_scale", 1.0),
    }


def _qwen2(facts: _Facts) -> Config:
    return {**_rms(facts, "qwen2", "Qwen2ForCausalLM"), "use_sliding_window": False}


def _qwen3(facts: _Facts) -> Config:
    return {**_rms(facts, "qwen3", "Qwen3ForCausalLM"), "use_sliding_window": False}


def _experts(facts: _Facts) -> Config:
    width = facts.shape("blk.0.ffn_gate_exps.weight")[1]
    return {
        "num_experts": facts.integer("expert_count"),
        "num_experts_per_tok": facts.integer("expert_used_count"),
        "moe_intermediate_size": facts.integer("expert_feed_forward_length", width),
        "use_sliding_window": False,
        "decoder_sparse_step": 1,
    }


def _qwen2_moe(facts: _Facts) -> Config:
    shared = facts.shape("blk.0.ffn_gate_shexp.weight")[0]
    return {
        **_rms(facts, "qwen2_moe", "Qwen2MoeForCausalLM"),
        **_experts(facts),
        "shared_expert_intermediate_size": shared,
        "norm_topk_prob": False,
        "qkv_bias": facts.holds("blk.0.attn_q.bias"),
    }


def _qwen3_moe(facts: _Facts) -> Config:
    """llama.cpp's graph divides the chosen experts' weights by their sum, always."""
    made = _rms(facts, "qwen3_moe", "Qwen3MoeForCausalLM")
    return {**made, **_experts(facts), "norm_topk_prob": True}


def _gemma(facts: _Facts) -> Config:
    made = _rms(facts, "gemma", "GemmaForCausalLM")
    return {**made, "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh"}


def _gemma2(facts: _Facts) -> Config:
    """The scale of attention is not stored: llama.cpp knows one model that has its own, 27B."""
    big = facts.integer("block_count") == 46
    scale = facts.integer("embedding_length") // facts.heads if big else facts.head_width
    return {
        **_gemma(facts),
        "model_type": "gemma2",
        "architectures": ["Gemma2ForCausalLM"],
        "query_pre_attn_scalar": scale,
        "attn_logit_softcapping": facts.number("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": facts.number("final_logit_softcapping", 30.0),
        "sliding_window": facts.integer("attention.sliding_window", 4096),
    }


def _gemma3(facts: _Facts) -> Config:
    big = facts.integer("block_count") == 62
    scale = facts.integer("embedding_length") // facts.heads if big else facts.head_width
    local = facts.number("rope.freq_base_swa", 10000.0)
    window = facts.integer("attention.sliding_window", 0)
    layers = facts.integer("block_count")
    kinds = [_gemma3_layer(n) if window else "full_attention" for n in range(layers)]
    return {
        **_gemma(facts),
        "model_type": "gemma3_text",
        "architectures": ["Gemma3ForCausalLM"],
        "query_pre_attn_scalar": scale,
        "sliding_window": window or None,
        "layer_types": kinds,
        "final_logit_softcapping": facts.number("final_logit_softcapping", 0.0) or None,
        "rope_parameters": {
            "full_attention": _rotary(facts),
            "sliding_attention": {"rope_type": "default", "rope_theta": local},
        },
    }


def _gemma3_layer(number: int) -> str:
    return "sliding_attention" if (number + 1) % 6 else "full_attention"


def _olmo2(facts: _Facts) -> Config:
    return _rms(facts, "olmo2", "Olmo2ForCausalLM")


def _smollm3(facts: _Facts) -> Config:
    return {**_rms(facts, "smollm3", "SmolLM3ForCausalLM"), "use_sliding_window": False}


def _phi3(facts: _Facts) -> Config:
    made = _rms(facts, "phi3", "Phi3ForCausalLM")
    width = made["hidden_size"] // made["num_attention_heads"]
    first = facts.integer("rope.scaling.original_context_length", made["max_position_embeddings"])
    rotary = made["rope_parameters"]
    rotary["partial_rotary_factor"] = facts.integer("rope.dimension_count", width) / width
    rotary["original_max_position_embeddings"] = first
    long, short = (facts.factors(f"rope_factors_{kind}.weight") for kind in ("long", "short"))
    if long is not None and short is not None:
        factors = {"long_factor": _shortest(long), "short_factor": _shortest(short)}
        rotary |= {"rope_type": "longrope", **factors}
    return {
        **made,
        "head_dim": width,
        "rope_parameters": rotary,
        "original_max_position_embeddings": first,
        "sliding_window": facts.integer("attention.sliding_window", 0) or None,
        "tie_word_embeddings": not facts.holds("output.weight"),
    }


def _shortest(numbers: NDArray[np.float32]) -> list[float]:
    return [float(str(number)) for number in numbers]


def _starcoder2(facts: _Facts) -> Config:
    return {
        **_decoder(facts, "starcoder2", "Starcoder2ForCausalLM"),
        "norm_epsilon": facts.number("attention.layer_norm_epsilon"),
        "hidden_act": "gelu_pytorch_tanh",
        "use_bias": facts.holds("blk.0.attn_q.bias"),
        "sliding_window": None,
    }


def _gpt2(facts: _Facts) -> Config:
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_embd": facts.integer("embedding_length"),
        "n_layer": facts.integer("block_count"),
        "n_head": facts.heads,
        "n_inner": facts.shape("blk.0.ffn_up.weight")[0],
        "n_positions": facts.shape("position_embd.weight")[0],
        "vocab_size": facts.shape("token_embd.weight")[0],
        "layer_norm_epsilon": facts.number("attention.layer_norm_epsilon"),
        "activation_function": "gelu_new",
        "tie_word_embeddings": True,
    }


def _bert(facts: _Facts) -> Config:
    return {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "hidden_size": facts.integer("embedding_length"),
        "num_hidden_layers": facts.integer("block_count"),
        "num_attention_heads": facts.heads,
        "intermediate_size": facts.integer("feed_forward_length"),
        "max_position_embeddings": facts.shape("position_embd.weight")[0],
        "vocab_size": facts.shape("token_embd.weight")[0],
        "type_vocab_size": facts.shape("token_types.weight")[0],
        "layer_norm_eps": facts.number("attention.layer_norm_epsilon"),
        "hidden_act": "gelu",
    }


_MAKERS: dict[str, Callable[[_Facts], Config]] = {
    "llama": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "qwen2moe": _qwen2_moe,
    "qwen3moe": _qwen3_moe,
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "phi3": _phi3,
    "gpt2": _gpt2,
    "starcoder2": _starcoder2,
    "granite": _granite,
    "olmo2": _olmo2,
    "smollm3": _smollm3,
    "bert": _bert,
}
