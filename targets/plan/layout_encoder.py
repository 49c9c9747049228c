"""The tensors of encoders, of text and of pictures, from their configuration alone."""

from __future__ import annotations

from collections.abc import Iterator

from .config import Config
from .facts import Tensor
from .layout_decoder import HEADS, HIDDEN, LAYERS, MLP, linear, mlp, norm


def block(base: str, hidden: int, size: int, *, gated: bool = False) -> Iterator[Tensor]:
    """Give a plain transformer layer: four projections, a feed-forward, two norms, biases."""
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        yield from linear(f"{base}.attention.{name}", hidden, hidden, True)
    yield from mlp(f"{base}.mlp", hidden, size, gated, True)
    yield from norm(f"{base}.norm1", hidden, True)
    yield from norm(f"{base}.norm2", hidden, True)


def _blocks(config: Config, base: str) -> Iterator[Tensor]:
    hidden = config.count(*HIDDEN)
    size = config.count(*MLP, default=4 * hidden)
    for layer in range(config.count(*LAYERS)):
        yield from block(f"{base}.layers.{layer}", hidden, size)


def bert(config: Config) -> Iterator[Tensor]:
    """Give the tensors of BERT and of what has its shape: RoBERTa, MPNet, DistilBERT."""
    hidden, kind = config.count(*HIDDEN), config.text("model_type")
    yield Tensor("embeddings.word_embeddings.weight", (config.count("vocab_size"), hidden))
    positions = config.count("max_position_embeddings")
    yield Tensor("embeddings.position_embeddings.weight", (positions, hidden))
    if kind not in ("distilbert", "mpnet"):
        types = config.count("type_vocab_size", default=2)
        yield Tensor("embeddings.token_type_embeddings.weight", (types, hidden))
    yield from norm("embeddings.LayerNorm", hidden, True)
    yield from _blocks(config, "encoder")
    if kind == "mpnet":
        buckets = config.count("relative_attention_num_buckets", default=32)
        yield Tensor("encoder.relative_attention_bias.weight", (buckets, config.count(*HEADS)))
    if kind != "distilbert":
        yield from linear("pooler.dense", hidden, hidden, True)


def vit(config: Config) -> Iterator[Tensor]:
    """Give the tensors of a vision transformer without a head: ViT, DeiT, DINOv2."""
    kind, hidden = config.text("model_type"), config.count(*HIDDEN)
    patch, channels = config.count("patch_size"), config.count("num_channels", default=3)
    special = 2 if kind == "deit" else 1
    yield Tensor("embeddings.cls_token", (1, special, hidden))
    yield Tensor("embeddings.position_embeddings", (1, patches(config) + special, hidden))
    yield Tensor("embeddings.patch_embeddings.weight", (hidden, channels * patch * patch))
    yield Tensor("embeddings.patch_embeddings.bias", (hidden,))
    if kind == "dinov2":
        yield from _dinov2_blocks(config)
        yield Tensor("embeddings.mask_token", (1, hidden))
    else:
        yield from _blocks(config, "encoder")
    yield from norm("layernorm", hidden, True)
    if kind == "vit":
        yield from linear("pooler.dense", hidden, hidden, True)


def _dinov2_blocks(config: Config) -> Iterator[Tensor]:
    hidden = config.count(*HIDDEN)
    size = hidden * config.count("mlp_ratio", default=4)
    gated = config.flag("use_swiglu_ffn")
    if gated:
        size = (size * 2 // 3 + 7) // 8 * 8
    for layer in range(config.count(*LAYERS)):
        yield from block(f"encoder.layers.{layer}", hidden, size, gated=gated)
        yield Tensor(f"encoder.layers.{layer}.layer_scale1.lambda1", (hidden,))
        yield Tensor(f"encoder.layers.{layer}.layer_scale2.lambda1", (hidden,))


def patches(config: Config) -> int:
    """Return how many patches a picture is cut into."""
    return (config.count("image_size", default=224) // config.count("patch_size")) ** 2


def clip(config: Config) -> Iterator[Tensor]:
    """Give the tensors of CLIP: two towers and their projections."""
    text = config.section("text_config") or Config({}, "config.json: text_config")
    vision = config.section("vision_config") or Config({}, "config.json: vision_config")
    shared = config.count("projection_dim", default=512)
    width, depth = text.count("hidden_size", default=512), text.count(*LAYERS, default=12)
    words, length = text.count("vocab_size", default=49408), text.count(*_LENGTH, default=77)
    yield Tensor("text_model.embeddings.token_embedding.weight", (words, width))
    yield Tensor("text_model.embeddings.position_embedding.weight", (length, width))
    size = text.count("intermediate_size", default=2048)
    for layer in range(depth):
        yield from block(f"text_model.encoder.layers.{layer}", width, size)
    yield from norm("text_model.final_layer_norm", width, True)
    yield from clip_vision(vision, "vision_model")
    yield Tensor("visual_projection.weight", (shared, vision.count("hidden_size", default=768)))
    yield Tensor("text_projection.weight", (shared, width))
    yield Tensor("logit_scale", ())


_LENGTH = ("max_position_embeddings",)


def clip_vision(vision: Config, base: str) -> Iterator[Tensor]:
    """Give the tensors of CLIP's vision tower."""
    hidden, patch = vision.count("hidden_size", default=768), vision.count("patch_size", default=32)
    count = (vision.count("image_size", default=224) // patch) ** 2
    yield Tensor(f"{base}.embeddings.class_embedding", (hidden,))
    yield Tensor(f"{base}.embeddings.patch_embedding.weight", (hidden, 3 * patch * patch))
    yield Tensor(f"{base}.embeddings.position_embedding.weight", (count + 1, hidden))
    yield from norm(f"{base}.pre_layrnorm", hidden, True)
    size = vision.count("intermediate_size", default=3072)
    for layer in range(vision.count(*LAYERS, default=12)):
        yield from block(f"{base}.encoder.layers.{layer}", hidden, size)
    yield from norm(f"{base}.post_layernorm", hidden, True)


def siglip_vision(vision: Config, base: str) -> Iterator[Tensor]:
    """Give the tensors of SigLIP's vision tower without its pooling head."""
    hidden, patch = vision.count("hidden_size"), vision.count("patch_size")
    yield Tensor(f"{base}.embeddings.patch_embedding.weight", (hidden, 3 * patch * patch))
    yield Tensor(f"{base}.embeddings.patch_embedding.bias", (hidden,))
    yield Tensor(f"{base}.embeddings.position_embedding.weight", (patches(vision), hidden))
    size = vision.count("intermediate_size")
    for layer in range(vision.count(*LAYERS)):
        yield from block(f"{base}.encoder.layers.{layer}", hidden, size)
    yield from norm(f"{base}.post_layernorm", hidden, True)
