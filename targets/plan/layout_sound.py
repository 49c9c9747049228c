"""The tensors of transformers over a sound's own samples: wav2vec 2.0, HuBERT, WavLM.

Baevski and others, arXiv:2006.11477; Hsu and others, arXiv:2106.07447; Chen and others,
arXiv:2110.13900, as transformers lays them out.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgeward.errors import SourceError

from .config import Config
from .facts import Tensor
from .layout_decoder import LAYERS, linear, norm
from .layout_encoder import block
from .layout_steps import head, labels, numbers

_WIDTHS = (512,) * 7
_KERNELS = (10, 3, 3, 3, 3, 2, 2)
_GATES = 8


def speech(config: Config) -> Iterator[Tensor]:
    """Give the tensors: convolutions of the sound, one over positions, a transformer, a head."""
    hidden = config.count("hidden_size", default=768)
    if config.real("mask_time_prob", 0.05) > 0 or config.real("mask_feature_prob", 0.0) > 0:
        yield Tensor("embeddings.masked_spec_embed", (hidden,))
    yield from _heard(config, hidden)
    yield from _positions(config, hidden)
    yield from norm("encoder.layer_norm", hidden, True)
    size = config.count("intermediate_size", default=3072)
    heads = config.count("num_attention_heads", default=12)
    for layer in range(config.count(*LAYERS, default=12)):
        base = f"encoder.layers.{layer}"
        yield from block(base, hidden, size)
        if config.text("model_type") == "wavlm":
            yield Tensor(f"{base}.attention.gru_rel_pos_const", (1, heads, 1, 1))
            yield from linear(f"{base}.attention.gru_rel_pos_linear", _GATES, hidden // heads, True)
        if config.has("adapter_attn_dim"):
            yield from _adapted(f"{base}.adapter_layer", hidden, config.count("adapter_attn_dim"))
    if config.text("model_type") == "wavlm":
        buckets = config.count("num_buckets", default=320)
        yield Tensor("encoder.relative_attention_bias.weight", (buckets, heads))
    yield from _ended(config, hidden)


def is_known(config: Config) -> bool:
    """Say whether the tensors follow from these rules: adapters behind the encoder do not."""
    return not config.flag("add_adapter")


def _heard(config: Config, hidden: int) -> Iterator[Tensor]:
    widths = numbers(config, "conv_dim", _WIDTHS)
    kernels = numbers(config, "conv_kernel", _KERNELS)
    if len(widths) != len(kernels):
        raise SourceError(f"{config.where}: conv_dim and conv_kernel must name the same layers")
    inputs, normed = 1, config.text("feat_extract_norm", "group")
    for layer, (width, kernel) in enumerate(zip(widths, kernels, strict=True)):
        base = f"feature_extractor.conv_layers.{layer}"
        yield Tensor(f"{base}.conv.weight", (width, inputs * kernel))
        if config.flag("conv_bias"):
            yield Tensor(f"{base}.conv.bias", (width,))
        if normed == "layer" or layer == 0:
            yield from norm(f"{base}.layer_norm", width, True)
        inputs = width
    if config.text("model_type") != "hubert" or config.flag("feat_proj_layer_norm", True):
        yield from norm("feature_projection.layer_norm", inputs, True)
    yield from linear("feature_projection.projection", hidden, inputs, True)


def _positions(config: Config, hidden: int) -> Iterator[Tensor]:
    kernel = config.count("num_conv_pos_embeddings", default=128)
    groups = config.count("num_conv_pos_embedding_groups", default=16)
    base = "encoder.pos_conv_embed"
    yield Tensor(f"{base}.conv.weight", (hidden, hidden // groups * kernel))
    yield Tensor(f"{base}.conv.bias", (hidden,))
    if config.flag("conv_pos_batch_norm"):
        yield from norm(f"{base}.batch_norm", hidden, True)
    else:
        yield Tensor(f"{base}.weight_norm", (kernel,))


def _adapted(base: str, hidden: int, size: int) -> Iterator[Tensor]:
    yield from norm(f"{base}.norm", hidden, True)
    yield from linear(f"{base}.linear_1", size, hidden, True)
    yield from linear(f"{base}.linear_2", hidden, size, True)


def _ended(config: Config, hidden: int) -> Iterator[Tensor]:
    ends = head(config)
    if ends == "CTC":
        yield from linear("lm_head", config.count("vocab_size", default=32), hidden, True)
    if ends == "SequenceClassification":
        narrow = config.count("classifier_proj_size", default=256)
        yield from linear("projector", narrow, hidden, True)
        yield from linear("classifier", labels(config), narrow, True)
        if config.flag("use_weighted_layer_sum"):
            yield Tensor("layer_weights", (config.count(*LAYERS, default=12) + 1,))
