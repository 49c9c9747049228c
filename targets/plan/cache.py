"""What a model caches of the past, layer by layer, from its configuration."""

from __future__ import annotations

from .config import Config
from .facts import CacheLayer
from .layout_decoder import HEADS, HIDDEN, LAYERS, head_size, kv_heads

_WINDOWED = frozenset({"sliding_attention", "chunked_attention", "local_attention"})
_LINEAR = frozenset({"linear_attention", "mamba", "recurrent", "conv"})


def cache_of(config: Config) -> tuple[CacheLayer, ...]:
    """Return what each layer of a decoder caches; a layer that keeps nothing is left out."""
    names = _layer_types(config)
    window = _window(config)
    return tuple(_layer(config, name, window) for name in names)


def describe(config: Config) -> str:
    """Return the attention in a few words: "GQA 32/8", "MLA rank 512"."""
    heads = config.count(*HEADS)
    if config.has("kv_lora_rank"):
        return f"MLA rank {config.count('kv_lora_rank')}"
    shared = kv_heads(config)
    form = "MHA" if shared == heads else "MQA" if shared == 1 else "GQA"
    names = _layer_types(config)
    linear = sum(name in _LINEAR for name in names)
    windowed = sum(name in _WINDOWED for name in names)
    extra = f", {linear} of {len(names)} layers linear" if linear else ""
    if windowed and _window(config):
        extra += f", {windowed} of {len(names)} layers see {_window(config)}"
    return f"{form} {heads}/{shared}{extra}"


def _layer_types(config: Config) -> tuple[str, ...]:
    """Return each layer's kind, in transformers' words, also where older files imply it."""
    count = config.count(*LAYERS)
    said = config.words("layer_types")
    if len(said) == count:
        return said
    kind = config.text("model_type")
    if kind == "gemma2":
        return _alternating(count, 2)
    if kind == "gemma3_text":
        return _alternating(count, config.count("sliding_window_pattern", default=6))
    if kind == "gpt_oss":
        return _alternating(count, 2)
    if config.has("full_attention_interval"):
        step = config.count("full_attention_interval")
        return _alternating(count, step, "linear_attention")
    if kind in ("mistral", "mixtral", "phi3", "starcoder2") and config.has("sliding_window"):
        return ("sliding_attention",) * count
    if kind == "qwen2" and config.flag("use_sliding_window"):
        first = config.count("max_window_layers", default=count, least=0)
        return tuple("full_attention" if n < first else "sliding_attention" for n in range(count))
    return ("full_attention",) * count


def _alternating(count: int, step: int, other: str = "sliding_attention") -> tuple[str, ...]:
    """Every `step`-th layer sees everything, those between are `other`."""
    return tuple("full_attention" if (n + 1) % step == 0 else other for n in range(count))


def _window(config: Config) -> int | None:
    return config.maybe("sliding_window", "attention_chunk_size") or None


def _layer(config: Config, name: str, window: int | None) -> CacheLayer:
    if name in _LINEAR:
        return CacheLayer(0, state=_state(config, name))
    kept = window if name in _WINDOWED else None
    if config.has("kv_lora_rank"):
        return CacheLayer(config.count("kv_lora_rank") + config.count("qk_rope_head_dim"), kept)
    return CacheLayer(2 * kv_heads(config) * head_size(config), kept)


def _state(config: Config, name: str) -> int:
    """What a linear layer keeps: a matrix a head, and the last inputs of its convolution."""
    hidden = config.count(*HIDDEN)
    if name == "conv":
        return hidden * config.count("conv_L_cache", default=3)
    if config.has("linear_num_value_heads"):
        keys = config.count("linear_key_head_dim"), config.count("linear_num_key_heads")
        values = config.count("linear_value_head_dim"), config.count("linear_num_value_heads")
        mixed = 2 * keys[0] * keys[1] + values[0] * values[1]
        kernel = config.count("linear_conv_kernel_dim", default=4)
        return keys[0] * values[0] * values[1] + mixed * kernel
    inner = config.count("mamba_d_ssm", "mamba_intermediate_size", default=2 * hidden)
    inner = max(inner, 1)
    state, kernel = config.count("mamba_d_state", "state_size", default=16), 4
    return inner * (state + config.count("mamba_d_conv", "conv_kernel", default=kernel))
