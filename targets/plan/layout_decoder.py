"""The tensors of a text generator from its configuration alone, as transformers names them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .config import Config
from .facts import Tensor


@dataclass(frozen=True, slots=True)
class Style:
    """How an architecture differs from Llama: biases, norms, what is fused, the feed-forward.

    `qkv_bias`, `out_bias` and `mlp_bias` are true, false or a key of the configuration. `norms` is
    how many stand in a layer, `norm_bias` whether they shift too. `qk_norm` is `head` (one size
    for all heads) or `full`.
    """

    qkv_bias: bool | str = "attention_bias"
    out_bias: bool | str = "attention_bias"
    mlp_bias: bool | str = "mlp_bias"
    head_bias: bool = False
    norms: int = 2
    norm_bias: bool = False
    final_norm: bool = True
    qk_norm: str = ""
    gated: bool = True
    fused: bool = False
    sinks: bool = False
    tied: bool = False
    positions: int = -1


def bias(config: Config, rule: bool | str) -> bool:
    """Say whether a bias is there by a rule of `Style`."""
    return config.flag(rule) if isinstance(rule, str) else rule


def is_tied(config: Config, style: Style) -> bool:
    """Say whether the head is the embedding again."""
    return config.flag("tie_word_embeddings", style.tied)


def head_size(config: Config) -> int:
    """Return the numbers in an attention head."""
    hidden, heads = config.count(*HIDDEN), config.count(*HEADS)
    return config.count("head_dim", "d_kv", "kv_channels", default=max(1, hidden // heads))


HIDDEN = ("hidden_size", "n_embd", "d_model", "dim")
HEADS = ("num_attention_heads", "n_head", "num_heads", "decoder_attention_heads", "n_heads")
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "decoder_layers", "n_layers")
MLP = ("intermediate_size", "n_inner", "ffn_dim", "d_ff", "decoder_ffn_dim", "hidden_dim")
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
ACTIVE = ("num_experts_per_tok", "num_experts_per_token", "moe_top_k")


def kv_heads(config: Config) -> int:
    """Return how many heads have keys and values of their own."""
    heads = config.count(*HEADS)
    if config.text("model_type") == "falcon":
        new = config.flag("new_decoder_architecture")
        alone = config.flag("multi_query", True) and not new
        return 1 if alone else config.count("num_kv_heads", default=heads)
    return config.count("num_key_value_heads", "num_kv_heads", default=heads)


def linear(name: str, rows: int, columns: int, with_bias: bool) -> Iterator[Tensor]:
    """Give a matrix and, where it has one, its bias."""
    yield Tensor(f"{name}.weight", (rows, columns))
    if with_bias:
        yield Tensor(f"{name}.bias", (rows,))


def norm(name: str, size: int, with_bias: bool) -> Iterator[Tensor]:
    """Give a norm's scale and, where it has one, its shift."""
    yield Tensor(f"{name}.weight", (size,))
    if with_bias:
        yield Tensor(f"{name}.bias", (size,))


def decoder(config: Config, style: Style, prefix: str = "") -> Iterator[Tensor]:
    """Give every tensor of a decoder, names beginning with `prefix`."""
    hidden, vocabulary = config.count(*HIDDEN), config.count("vocab_size")
    base = f"{prefix}model"
    yield Tensor(f"{base}.embed_tokens.weight", (vocabulary, hidden))
    if style.positions >= 0:
        rows = config.count("max_position_embeddings", "n_positions") + style.positions
        yield Tensor(f"{base}.embed_positions.weight", (rows, hidden))
    for layer in range(config.count(*LAYERS)):
        yield from _layer(config, style, f"{base}.layers.{layer}", layer)
    if style.final_norm:
        yield from norm(f"{base}.norm", hidden, style.norm_bias)
    if not is_tied(config, style):
        yield from linear(f"{prefix}lm_head", vocabulary, hidden, style.head_bias)


def _layer(config: Config, style: Style, base: str, layer: int) -> Iterator[Tensor]:
    hidden = config.count(*HIDDEN)
    if config.has("kv_lora_rank"):
        yield from _latent_attention(config, f"{base}.self_attn")
    else:
        yield from _attention(config, style, f"{base}.self_attn")
    if _is_sparse(config, layer):
        yield from _experts(config, style, f"{base}.mlp")
    else:
        size = config.count(*MLP, default=4 * hidden)
        yield from mlp(f"{base}.mlp", hidden, size, style.gated, bias(config, style.mlp_bias))
    for number in range(style.norms):
        yield from norm(f"{base}.layernorm_{number}", hidden, style.norm_bias)


def _attention(config: Config, style: Style, base: str) -> Iterator[Tensor]:
    hidden, heads = config.count(*HIDDEN), config.count(*HEADS)
    size = head_size(config)
    queries, keys = heads * size, kv_heads(config) * size
    with_bias = bias(config, style.qkv_bias)
    if style.fused:
        yield from linear(f"{base}.qkv_proj", queries + 2 * keys, hidden, with_bias)
    else:
        yield from linear(f"{base}.q_proj", queries, hidden, with_bias)
        yield from linear(f"{base}.k_proj", keys, hidden, with_bias)
        yield from linear(f"{base}.v_proj", keys, hidden, with_bias)
    yield from linear(f"{base}.o_proj", hidden, queries, bias(config, style.out_bias))
    if style.qk_norm:
        full = style.qk_norm == "full"
        yield Tensor(f"{base}.q_norm.weight", (queries if full else size,))
        yield Tensor(f"{base}.k_norm.weight", (keys if full else size,))
    if style.sinks:
        yield Tensor(f"{base}.sinks", (heads,))


def _latent_attention(config: Config, base: str) -> Iterator[Tensor]:
    """Multi-head latent attention: DeepSeek-V2, arXiv:2405.04434, section 2.1."""
    hidden, heads = config.count(*HIDDEN), config.count(*HEADS)
    rotary, plain = config.count("qk_rope_head_dim"), config.count("qk_nope_head_dim")
    rank, value = config.count("kv_lora_rank"), config.count("v_head_dim")
    queries = heads * (rotary + plain)
    query_rank = config.maybe("q_lora_rank")
    if query_rank:
        yield Tensor(f"{base}.q_a_proj.weight", (query_rank, hidden))
        yield Tensor(f"{base}.q_a_layernorm.weight", (query_rank,))
        yield Tensor(f"{base}.q_b_proj.weight", (queries, query_rank))
    else:
        yield Tensor(f"{base}.q_proj.weight", (queries, hidden))
    yield Tensor(f"{base}.kv_a_proj_with_mqa.weight", (rank + rotary, hidden))
    yield Tensor(f"{base}.kv_a_layernorm.weight", (rank,))
    yield Tensor(f"{base}.kv_b_proj.weight", (heads * (plain + value), rank))
    yield Tensor(f"{base}.o_proj.weight", (hidden, heads * value))


def mlp(base: str, hidden: int, size: int, gated: bool, with_bias: bool) -> Iterator[Tensor]:
    """Give the feed-forward's two matrices, or three where it is gated."""
    if gated:
        yield from linear(f"{base}.gate_proj", size, hidden, with_bias)
    yield from linear(f"{base}.up_proj", size, hidden, with_bias)
    yield from linear(f"{base}.down_proj", hidden, size, with_bias)


def _is_sparse(config: Config, layer: int) -> bool:
    if not config.has(*EXPERTS) or layer in config.numbers("mlp_only_layers"):
        return False
    step = config.count("decoder_sparse_step", "moe_layer_freq", default=1)
    if config.text("model_type").startswith("qwen"):
        return (layer + 1) % step == 0
    return layer >= (config.maybe("first_k_dense_replace") or 0) and layer % step == 0


def _experts(config: Config, style: Style, base: str) -> Iterator[Tensor]:
    hidden, experts = config.count(*HIDDEN), config.count(*EXPERTS)
    size = config.count("moe_intermediate_size", *MLP)
    with_bias = style.sinks
    yield from linear(f"{base}.gate", experts, hidden, with_bias)
    for tensor in mlp(f"{base}.experts.0", hidden, size, True, with_bias):
        yield Tensor(tensor.name, tensor.shape, experts)
    if config.text("topk_method") == "noaux_tc":
        yield Tensor(f"{base}.gate.e_score_correction_bias", (experts,))
    shared = (config.maybe("n_shared_experts") or 0) * size
    if config.has("shared_expert_intermediate_size"):
        shared = config.count("shared_expert_intermediate_size")
        yield Tensor(f"{base}.shared_expert_gate.weight", (1, hidden))
    if shared:
        yield from mlp(f"{base}.shared_experts", hidden, shared, True, False)
