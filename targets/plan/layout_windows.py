"""Attention in windows of a picture, in stages: Swin and Swin v2.

Liu and others, arXiv:2103.14030 and arXiv:2111.09883, as transformers lays them out. Each stage
has a quarter of the places and twice the channels of the one before.
"""

from __future__ import annotations

from .config import Config
from .layout_steps import (
    SEQUENCE,
    Steps,
    attention,
    beside,
    classifier,
    convolution,
    depths,
    feed_forward,
    halved,
    linear,
    norm,
    numbers,
    passed,
    side_of,
    table,
)

_BIAS_WIDTH = 512


def swin(config: Config) -> Steps:
    """Give Swin's steps; the side of a stage is padded to whole windows."""
    heads = numbers(config, "num_heads", (3, 6, 12, 24))
    layers = depths(config, (2, 2, 6, 2), heads)
    width, patch = config.count("embed_dim", default=96), config.count("patch_size", default=4)
    side = halved(side_of(config), patch)
    channels = config.count("num_channels", default=3)
    yield from convolution(
        "embeddings.patch_embeddings", width, channels, patch, side, stride=patch,
        bias=True, norm=False,
    )  # fmt: skip
    yield from norm("embeddings", width, side**2)
    if config.flag("use_absolute_embeddings"):
        yield table("embeddings.position_embeddings", 1, side**2, width)
    for stage, (depth, count) in enumerate(zip(layers, heads, strict=True)):
        for layer in range(depth):
            base = f"encoder.layers.{stage}.blocks.{layer}"
            yield from _block(config, base, width, side, count)
        if stage < len(layers) - 1:
            yield from _merged(config, f"encoder.layers.{stage}.downsample", width, side)
            width, side = 2 * width, halved(side)
    yield from norm("layernorm", width, side**2)
    yield from classifier(config, width)


def _block(config: Config, base: str, width: int, side: int, heads: int) -> Steps:
    window = config.count("window_size", default=7)
    size = int(width * config.real("mlp_ratio", 4.0))
    second = config.text("model_type") == "swinv2"
    used = min(window, side)
    groups = halved(side, used) ** 2
    places, padded = side**2, groups * used**2
    waiting = width * places
    seen = attention(
        base, width, padded, heads, groups=groups, biases=_biases(config, second), fused=False
    )
    yield from _biased(base, heads, window, second)
    if not second:
        yield from norm(f"{base}.layernorm_before", width, places)
    yield from beside([*_cut(width * padded, used < side), *seen], waiting, SEQUENCE)
    if second:
        yield from norm(f"{base}.layernorm_before", width, places)
    else:
        yield from norm(f"{base}.layernorm_after", width, places)
    yield from beside(feed_forward(base, width, size, places), waiting, SEQUENCE)
    if second:
        yield from norm(f"{base}.layernorm_after", width, places)


def _cut(numbers: int, shifts: bool) -> Steps:
    """A picture is cut to windows and put together again; every second layer shifts it before."""
    if shifts:
        yield passed(numbers, form="down")
        yield passed(numbers, form="across")
    yield passed(numbers, form="windows")
    yield passed(numbers, form="whole")


def _biases(config: Config, second: bool) -> str:
    if not config.flag("qkv_bias", True):
        return "o"
    return "qvo" if second else "qkvo"


def _biased(base: str, heads: int, window: int, second: bool) -> Steps:
    """What tells a window's places apart: a table, or a small network over their distances."""
    if not second:
        rows = (2 * window - 1) ** 2
        yield table(f"{base}.attention.relative_position_bias_table.embedding", rows, heads)
        return
    places = (2 * window - 1) ** 2
    name = f"{base}.attention.continuous_position_bias_mlp"
    yield table(f"{base}.attention.logit_scale", heads, 1, 1)
    yield from linear(f"{name}.0", _BIAS_WIDTH, 2, places)
    yield from linear(f"{name}.2", heads, _BIAS_WIDTH, places, bias=False)


def _merged(config: Config, base: str, width: int, side: int) -> Steps:
    """Four neighbours become one place; the second version normalises what comes of them."""
    places = halved(side) ** 2
    second = config.text("model_type") == "swinv2"
    yield passed(4 * width * places, 4 * width * places, form=SEQUENCE)
    if not second:
        yield from norm(base, 4 * width, places)
    yield from linear(f"{base}.reduction", 2 * width, 4 * width, places, bias=False)
    if second:
        yield from norm(base, 2 * width, places)
