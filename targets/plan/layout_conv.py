"""Residual convolutions from their configuration alone: ResNet and RegNet, step by step.

He and others, Deep Residual Learning, arXiv:1512.03385; Radosavovic and others, Designing Network
Design Spaces, arXiv:2003.13678, both as transformers lays them out.
"""

from __future__ import annotations

from .config import Config
from .layout_steps import (
    PICTURE,
    Steps,
    beside,
    classifier,
    convolution,
    depths,
    halved,
    numbers,
    passed,
)

_SHRINK = 4
RESNET = (256, 512, 1024, 2048)
RESNET_DEPTHS = (3, 4, 6, 3)


def stem_side(config: Config) -> int:
    """Return the side of what the stages begin with: a stride of two, and pooling by two."""
    return halved(halved(config.count("image_size", default=PICTURE)))


def resnet(config: Config, *, frozen: bool = False, dilated: bool = False) -> Steps:
    """Give a ResNet without its head; SourceError where stages and their widths do not match.

    `frozen` says that its norms are no parameters, `dilated` that the last stage does not shrink.
    """
    widths = numbers(config, "hidden_sizes", RESNET)
    layers = depths(config, RESNET_DEPTHS, widths)
    wide, side = config.count("embedding_size", default=64), stem_side(config)
    before = halved(config.count("image_size", default=PICTURE))
    channels = config.count("num_channels", default=3)
    yield from convolution(
        "embedder.embedder", wide, channels, 7, before, stride=2, norm=not frozen
    )
    yield passed(wide * before**2, wide * side**2)
    for number, (depth, width) in enumerate(zip(layers, widths, strict=True)):
        last = dilated and number == len(layers) - 1
        shrinks = (number > 0 or config.flag("downsample_in_first_stage")) and not last
        side = halved(side) if shrinks else side
        for layer in range(depth):
            base = f"encoder.stages.{number}.layers.{layer}"
            strides = shrinks and layer == 0
            yield from _block(config, base, (wide, width), side, strides, not frozen)
            wide = width


def _block(
    config: Config, base: str, widths: tuple[int, int], side: int, shrinks: bool, norm: bool
) -> Steps:
    inputs, outputs = widths
    stride, kept = (2 if shrinks else 1), outputs * side**2
    read = inputs * (side * stride) ** 2
    narrow = outputs // _SHRINK
    if config.text("layer_type", "bottleneck") == "basic":
        first = convolution(f"{base}.layer.0", outputs, inputs, 3, side, stride=stride, norm=norm)
        second = convolution(f"{base}.layer.1", outputs, outputs, 3, side, norm=norm)
        yield from first
        yield from beside(second, read)
    else:
        early = shrinks and config.flag("downsample_in_bottleneck")
        middle = side if early or not shrinks else 2 * side
        ones, threes = (stride, 1) if early else (1, stride)
        yield from convolution(f"{base}.layer.0", narrow, inputs, 1, middle, stride=ones, norm=norm)
        yield from beside(
            convolution(f"{base}.layer.1", narrow, narrow, 3, side, stride=threes, norm=norm), read
        )
        yield from beside(convolution(f"{base}.layer.2", outputs, narrow, 1, side, norm=norm), read)
    if shrinks or inputs != outputs:
        short = convolution(f"{base}.shortcut", outputs, inputs, 1, side, stride=stride, norm=norm)
        yield from beside(short, kept)


def regnet(config: Config) -> Steps:
    """Give a RegNet: three convolutions a layer, the middle one in groups, and what squeezes."""
    widths = numbers(config, "hidden_sizes", (128, 192, 512, 1088))
    layers = depths(config, (2, 6, 12, 2), widths)
    wide = config.count("embedding_size", default=32)
    side = halved(config.count("image_size", default=PICTURE))
    channels = config.count("num_channels", default=3)
    yield from convolution("embedder.embedder", wide, channels, 3, side, stride=2)
    for number, (depth, width) in enumerate(zip(layers, widths, strict=True)):
        shrinks = number > 0 or config.flag("downsample_in_first_stage", True)
        side = halved(side) if shrinks else side
        for layer in range(depth):
            stride = 2 if shrinks and layer == 0 else 1
            base = f"encoder.stages.{number}.layers.{layer}"
            yield from _grouped(config, base, (wide, width), side, stride)
            wide = width
    yield from classifier(config, wide)


def _grouped(config: Config, base: str, widths: tuple[int, int], side: int, stride: int) -> Steps:
    inputs, outputs = widths
    groups = max(1, outputs // config.count("groups_width", default=64))
    read = inputs * (side * stride) ** 2
    yield from convolution(f"{base}.layer.0", outputs, inputs, 1, side * stride)
    grouped = convolution(
        f"{base}.layer.1", outputs, outputs, 3, side, stride=stride, groups=groups
    )
    yield from beside(grouped, read)
    if config.text("layer_type", "y") == "y":
        narrow = round(inputs / _SHRINK)
        squeezed = f"{base}.layer.2.attention"
        yield from convolution(f"{squeezed}.0", narrow, outputs, 1, 1, bias=True, norm=False)
        yield from convolution(f"{squeezed}.2", outputs, narrow, 1, 1, bias=True, norm=False)
        yield passed(read, 2 * outputs * side**2)
    yield from beside(convolution(f"{base}.layer.3", outputs, outputs, 1, side), read)
    if stride > 1 or inputs != outputs:
        short = convolution(f"{base}.shortcut", outputs, inputs, 1, side, stride=stride)
        yield from beside(short, outputs * side**2)
