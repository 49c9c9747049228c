"""Convolutions shaped as transformers: ConvNeXt, and its second version with response norms.

Liu and others, arXiv:2201.03545; Woo and others, arXiv:2301.00808, as transformers lays them out.
"""

from __future__ import annotations

from .config import Config
from .layout_steps import (
    ROWS,
    Steps,
    beside,
    classifier,
    convolution,
    depths,
    linear,
    norm,
    numbers,
    passed,
    side_of,
    table,
)


def convnext(config: Config) -> Steps:
    """Give ConvNeXt's steps: a stage halves the side before its layers, but for the first."""
    widths = numbers(config, "hidden_sizes", (96, 192, 384, 768))
    layers = depths(config, (3, 3, 9, 3), widths)
    patch = config.count("patch_size", default=4)
    wide, side = config.count("num_channels", default=3), side_of(config) // patch
    for stage, (depth, width) in enumerate(zip(layers, widths, strict=True)):
        kernel = 2 if stage else patch
        name = f"encoder.stages.{stage}.downsampling_layer" if stage else "embeddings"
        if stage:
            yield from norm(name, wide, side**2)
            side //= 2
        yield from convolution(
            name, width, wide, kernel, side, stride=kernel, bias=True, norm=False
        )
        if not stage:
            yield from norm(name, width, side**2)
        for layer in range(depth):
            yield from _block(config, f"encoder.stages.{stage}.layers.{layer}", width, side)
        wide = width
    yield from norm("layernorm", wide, 1)
    yield from classifier(config, wide)


def _block(config: Config, base: str, width: int, side: int) -> Steps:
    places, waiting = side**2, width * side**2
    wide = 4 * waiting
    deep = convolution(f"{base}.dwconv", width, width, 7, side, groups=width, bias=True, norm=False)
    yield from deep
    yield from beside(norm(f"{base}.layernorm", width, places), waiting)
    yield from beside(linear(f"{base}.mlp.pwconv1", 4 * width, width, places), waiting)
    yield from beside([passed(wide, wide, form=ROWS)], waiting)
    if config.text("model_type") == "convnextv2":
        yield table(f"{base}.grn.norm.weight", 4 * width)
        yield table(f"{base}.grn.norm.bias", 4 * width)
        yield from beside([passed(wide, wide, wide, form=ROWS)], waiting)
    yield from beside(linear(f"{base}.mlp.pwconv2", width, 4 * width, places), waiting)
    if config.text("model_type") == "convnext" and config.real("layer_scale_init_value", 1e-6) > 0:
        yield table(f"{base}.layer_scale_parameter", width)
