"""The tensors of an encoder with a decoder from their configuration alone: Whisper, T5, BART."""

from __future__ import annotations

from collections.abc import Iterator

from .config import Config
from .facts import Tensor
from .layout_decoder import linear, mlp, norm


def _attention(base: str, hidden: int, *, key_bias: bool) -> Iterator[Tensor]:
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        yield from linear(f"{base}.{name}", hidden, hidden, key_bias or name != "k_proj")


def _blocks(config: Config, side: str, *, key_bias: bool, base: str = "model") -> Iterator[Tensor]:
    hidden, size = config.count("d_model"), config.count(f"{side}_ffn_dim")
    for layer in range(config.count(f"{side}_layers")):
        at = f"{base}.{side}.layers.{layer}"
        yield from _attention(f"{at}.self_attn", hidden, key_bias=key_bias)
        yield from norm(f"{at}.self_attn_layer_norm", hidden, True)
        if side == "decoder":
            yield from _attention(f"{at}.encoder_attn", hidden, key_bias=key_bias)
            yield from norm(f"{at}.encoder_attn_layer_norm", hidden, True)
        yield from mlp(f"{at}.mlp", hidden, size, False, True)
        yield from norm(f"{at}.final_layer_norm", hidden, True)


def whisper(config: Config) -> Iterator[Tensor]:
    """Give Whisper's tensors: two convolutions, fixed positions, the head tied."""
    hidden, mels = config.count("d_model"), config.count("num_mel_bins", default=80)
    yield Tensor("model.encoder.conv1.weight", (hidden, mels, 3))
    yield Tensor("model.encoder.conv1.bias", (hidden,))
    yield Tensor("model.encoder.conv2.weight", (hidden, hidden, 3))
    yield Tensor("model.encoder.conv2.bias", (hidden,))
    sounds = config.count("max_source_positions", default=1500)
    yield Tensor("model.encoder.embed_positions.weight", (sounds, hidden))
    yield from _blocks(config, "encoder", key_bias=False)
    yield from norm("model.encoder.layer_norm", hidden, True)
    yield Tensor("model.decoder.embed_tokens.weight", (config.count("vocab_size"), hidden))
    words = config.count("max_target_positions", default=448)
    yield Tensor("model.decoder.embed_positions.weight", (words, hidden))
    yield from _blocks(config, "decoder", key_bias=False)
    yield from norm("model.decoder.layer_norm", hidden, True)


def bart(config: Config) -> Iterator[Tensor]:
    """Give BART's tensors, and Marian's: one embedding for both sides and the head."""
    hidden = config.count("d_model")
    marian = config.text("model_type") == "marian"
    yield Tensor("model.shared.weight", (config.count("vocab_size"), hidden))
    rows = config.count("max_position_embeddings", default=1024) + (0 if marian else 2)
    for side in ("encoder", "decoder"):
        yield Tensor(f"model.{side}.embed_positions.weight", (rows, hidden))
        yield from _blocks(config, side, key_bias=True)
        if not marian:
            yield from norm(f"model.{side}.layernorm_embedding", hidden, True)


def t5(config: Config) -> Iterator[Tensor]:
    """Give T5's tensors: no biases, relative positions in each side's first layer."""
    hidden, vocabulary = config.count("d_model"), config.count("vocab_size")
    yield Tensor("shared.weight", (vocabulary, hidden))
    depth = config.count("num_layers")
    yield from _t5_side(config, "encoder", depth)
    yield from _t5_side(config, "decoder", config.count("num_decoder_layers", default=depth))
    if not config.flag("tie_word_embeddings", True):
        yield Tensor("lm_head.weight", (vocabulary, hidden))


def _t5_side(config: Config, side: str, depth: int) -> Iterator[Tensor]:
    hidden, heads = config.count("d_model"), config.count("num_heads")
    inner = heads * config.count("d_kv", default=64)
    gated = config.flag("is_gated_act") or "gated" in config.text("feed_forward_proj", "relu")
    buckets = config.count("relative_attention_num_buckets", default=32)
    yield Tensor(f"{side}.relative_attention_bias.weight", (buckets, heads))
    for layer in range(depth):
        base = f"{side}.block.{layer}"
        attentions = ("SelfAttention", "EncDecAttention")[: 2 if side == "decoder" else 1]
        for attention in attentions:
            for name in ("q_proj", "k_proj", "v_proj"):
                yield Tensor(f"{base}.{attention}.{name}.weight", (inner, hidden))
            yield Tensor(f"{base}.{attention}.o_proj.weight", (hidden, inner))
            yield Tensor(f"{base}.{attention}_layer_norm.weight", (hidden,))
        yield from mlp(f"{base}.mlp", hidden, config.count("d_ff"), gated, False)
        yield Tensor(f"{base}.mlp_layer_norm.weight", (hidden,))
    yield Tensor(f"{side}.final_layer_norm.weight", (hidden,))
