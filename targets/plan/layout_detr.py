"""Objects asked for by queries: DETR over a ResNet's last map.

Carion and others, arXiv:2005.12872, as transformers lays it out; its norms in the backbone are
frozen and no parameters.
"""

from __future__ import annotations

from collections.abc import Mapping

from .config import Config
from .layout_conv import RESNET, resnet
from .layout_steps import (
    SEQUENCE,
    Steps,
    attention,
    beside,
    convolution,
    feed_forward,
    halved,
    head,
    labels,
    linear,
    norm,
    numbers,
    side_of,
    table,
)

# The shortest edge that its preprocessor makes pictures of, unless its settings say a size.
PICTURE = 800
_SHRUNK = 5
_BASIC: Mapping[str, object] = {"layer_type": "basic", "hidden_sizes": [64, 128, 256, 512]}
# The names of timm's residual networks that DETR was published with.
BACKBONES: Mapping[str, Mapping[str, object]] = {
    "resnet18": {**_BASIC, "depths": [2, 2, 2, 2]},
    "resnet34": {**_BASIC, "depths": [3, 4, 6, 3]},
    "resnet50": {"depths": [3, 4, 6, 3]},
    "resnet101": {"depths": [3, 4, 23, 3]},
    "resnet152": {"depths": [3, 8, 36, 3]},
}


def backbone_of(config: Config) -> Config | None:
    """Return the residual network's sizes, None where the backbone is another."""
    said = config.section("backbone_config")
    if said is not None and said.text("model_type", "resnet") == "resnet":
        return said
    name = said.text("backbone") if said is not None else config.text("backbone", "resnet50")
    return Config(BACKBONES[name], config.where) if name in BACKBONES else None


def detr(config: Config) -> Steps | None:
    """Give DETR's steps, None where no rule knows its backbone."""
    backbone = backbone_of(config)
    return None if backbone is None else _steps(config, backbone)


def _steps(config: Config, backbone: Config) -> Steps:
    side, dilated = side_of(config, PICTURE), config.flag("dilation")
    channels = config.count("num_channels", default=3)
    fed = {**backbone.items(), "image_size": side, "num_channels": channels}
    yield from resnet(Config(fed, backbone.where), frozen=True, dilated=dilated)
    width = config.count("d_model", default=256)
    for _ in range(_SHRUNK - dilated):
        side = halved(side)
    last = numbers(backbone, "hidden_sizes", RESNET)[-1]
    yield from convolution("input_projection", width, last, 1, side, bias=True, norm=False)
    yield from _encoder(config, width, side**2)
    yield from _decoder(config, width, side**2)
    if head(config) != "":
        yield from _told(config, width)


def _encoder(config: Config, width: int, places: int) -> Steps:
    size = config.count("encoder_ffn_dim", default=2048)
    heads = config.count("encoder_attention_heads", default=8)
    # The places' positions wait for every layer, what it reads for its own sum.
    waiting = 2 * width * places
    for layer in range(config.count("encoder_layers", default=6)):
        base = f"encoder.layers.{layer}"
        yield from beside(attention(f"{base}.self", width, places, heads), waiting, SEQUENCE)
        yield from norm(f"{base}.self_attn_layer_norm", width, places)
        yield from beside(feed_forward(base, width, size, places), waiting, SEQUENCE)
        yield from norm(f"{base}.final_layer_norm", width, places)


def _decoder(config: Config, width: int, places: int) -> Steps:
    queries = config.count("num_queries", default=100)
    size = config.count("decoder_ffn_dim", default=2048)
    heads = config.count("decoder_attention_heads", default=8)
    waiting = 2 * width * (places + queries)
    yield table("query_position_embeddings.weight", queries, width)
    for layer in range(config.count("decoder_layers", default=6)):
        base = f"decoder.layers.{layer}"
        yield from beside(attention(f"{base}.self", width, queries, heads), waiting, SEQUENCE)
        yield from norm(f"{base}.self_attn_layer_norm", width, queries)
        crossed = attention(f"{base}.encoder", width, queries, heads, keys=places, source=places)
        yield from beside(crossed, waiting, SEQUENCE)
        yield from norm(f"{base}.encoder_attn_layer_norm", width, queries)
        yield from beside(feed_forward(base, width, size, queries), waiting, SEQUENCE)
        yield from norm(f"{base}.final_layer_norm", width, queries)
    yield from norm("decoder.layernorm", width, queries)


def _told(config: Config, width: int) -> Steps:
    """What each query found, nothing among them, and where."""
    queries = config.count("num_queries", default=100)
    yield from linear("class_labels_classifier", labels(config) + 1, width, queries)
    for layer, rows in enumerate((width, width, 4)):
        yield from linear(f"bbox_predictor.layers.{layer}", rows, width, queries)
