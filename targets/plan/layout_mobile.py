"""Convolutions of one channel each between ones of one place: MobileNet v1 and v2, MobileViT.

Howard and others, arXiv:1704.04861; Sandler and others, arXiv:1801.04381; Mehta and Rastegari,
arXiv:2110.02178, as transformers lays them out.
"""

from __future__ import annotations

from edgeward.errors import SourceError

from .config import Config
from .layout_steps import (
    Steps,
    beside,
    block,
    classifier,
    convolution,
    halved,
    head,
    labels,
    norm,
    numbers,
    passed,
    side_of,
)

_V1_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
_V2_STRIDES = (2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1)
_V2_WIDTHS = (16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320)
_V2_LAST = 1280
_ASPP = 256
_MOBILEVIT_LAYERS = (2, 4, 3)
_NECKS = 7


def mobilenet_v1(config: Config) -> Steps:
    """Give MobileNet v1's steps: thirteen pairs of convolutions."""
    share, least = config.real("depth_multiplier", 1.0), config.count("min_depth", default=8)
    deep, side = 32, halved(side_of(config))
    wide = max(int(deep * share), least)
    channels = config.count("num_channels", default=3)
    yield from convolution("conv_stem", wide, channels, 3, side, stride=2)
    for number, stride in enumerate(_V1_STRIDES):
        width = wide
        side = halved(side, stride)
        yield from convolution(
            f"layer.{2 * number}", width, width, 3, side, stride=stride, groups=width
        )
        deep *= 2 if stride == 2 or number == 0 else 1
        wide = max(int(deep * share), least)
        yield from convolution(f"layer.{2 * number + 1}", wide, width, 1, side)
    yield from classifier(config, wide)


def mobilenet_v2(config: Config) -> Steps:
    """Give MobileNet v2's steps, with DeepLab's head where it names places."""
    share = config.real("depth_multiplier", 1.0)
    widths = [_scaled(config, width, share) for width in _V2_WIDTHS]
    side, wide = halved(side_of(config)), _scaled(config, 32, share)
    channels = config.count("num_channels", default=3)
    yield from convolution("conv_stem.first_conv", wide, channels, 3, side, stride=2)
    if not config.flag("first_layer_is_expansion", True):
        yield from convolution("conv_stem.expand_1x1", wide, wide, 1, side)
    yield from convolution("conv_stem.conv_3x3", wide, wide, 3, side, groups=wide)
    yield from convolution("conv_stem.reduce_1x1", widths[0], wide, 1, side)
    shrunk, most = 2, config.count("output_stride", default=32)
    for number, asked in enumerate(_V2_STRIDES):
        stride = 1 if shrunk >= most else asked
        shrunk, side = shrunk * stride, halved(side, stride)
        pair = (widths[number], widths[number + 1])
        expanded = _divisible(config, round(pair[0] * config.real("expand_ratio", 6.0)))
        yield from _inverted(f"layer.{number}", pair, expanded, side, stride)
    fine = config.flag("finegrained_output", True) and share < 1
    last = _V2_LAST if fine else _scaled(config, _V2_LAST, share)
    yield from convolution("conv_1x1", last, widths[-1], 1, side)
    yield from classifier(config, last)
    if head(config) == "SemanticSegmentation":
        yield from convolution("segmentation_head.conv_pool", _ASPP, widths[-1], 1, 1)
        yield from convolution("segmentation_head.conv_aspp", _ASPP, widths[-1], 1, side)
        yield from convolution("segmentation_head.conv_projection", _ASPP, 2 * _ASPP, 1, side)
        yield from _named(config, _ASPP, side)


def mobilevit(config: Config) -> Steps:
    """Give MobileViT's steps, with DeepLab's head where it names places."""
    necks = numbers(config, "neck_hidden_sizes", (16, 32, 64, 96, 128, 160, 640))
    widths = numbers(config, "hidden_sizes", (144, 192, 240))
    if (len(necks), len(widths)) != (_NECKS, len(_MOBILEVIT_LAYERS)):
        raise SourceError(f"{config.where}: MobileViT has {_NECKS} necks and three hidden sizes")
    side, ratio = halved(side_of(config, 256)), config.real("expand_ratio", 4.0)
    channels = config.count("num_channels", default=3)
    yield from _smooth(convolution("conv_stem", necks[0], channels, 3, side, stride=2))
    pairs = [(necks[0], necks[1], 1), (necks[1], necks[2], 2), *[(necks[2], necks[2], 1)] * 2]
    for number, (inputs, outputs, stride) in enumerate(pairs):
        side = halved(side, stride)
        base = f"encoder.layer.{min(number, 1)}.layer.{max(number - 1, 0)}"
        expanded = _rounded(round(inputs * ratio), 8, 8)
        yield from _inverted(base, (inputs, outputs), expanded, side, stride, smooth=True)
    most = config.count("output_stride", default=32)
    for number, (width, layers) in enumerate(zip(widths, _MOBILEVIT_LAYERS, strict=True)):
        pair, base = necks[number + 2 : number + 4], f"encoder.layer.{number + 2}"
        stride = 2 if 4 << (number + 1) <= most else 1
        side = halved(side, stride)
        expanded = _rounded(round(pair[0] * ratio), 8, 8)
        down = f"{base}.downsampling_layer"
        yield from _inverted(down, (pair[0], pair[1]), expanded, side, stride, smooth=True)
        yield from _looked(config, base, pair[1], width, layers, side)
    if head(config) == "SemanticSegmentation":
        yield from _deeplab(config, necks[-2], side)
        return
    yield from _smooth(convolution("conv_1x1_exp", necks[-1], necks[-2], 1, side))
    yield from classifier(config, necks[-1])


def _looked(config: Config, base: str, wide: int, width: int, layers: int, side: int) -> Steps:
    """Attention among the places that lie alike in each patch."""
    kernel, patch = (
        config.count("conv_kernel_size", default=3),
        config.count("patch_size", default=2),
    )
    apart = patch**2
    places, waiting = (halved(side, patch) * patch) ** 2, wide * side**2
    size, heads = (
        int(width * config.real("mlp_ratio", 2.0)),
        config.count("num_attention_heads", default=4),
    )
    near = convolution(f"{base}.conv_kxk", wide, wide, kernel, side)
    yield from beside(_smooth(near), waiting)
    one = convolution(f"{base}.conv_1x1", width, wide, 1, side, norm=False)
    yield from beside(one, waiting)
    biases = "qkvo" if config.flag("qkv_bias", True) else "o"
    for layer in range(layers):
        seen = block(
            f"{base}.transformer.layer.{layer}",
            width,
            size,
            places,
            heads,
            biases,
            groups=apart,
            fused=False,
        )
        yield from beside(seen, waiting)
    yield from beside(norm(f"{base}.layernorm", width, places), waiting)
    projected = convolution(f"{base}.conv_projection", wide, width, 1, side)
    yield from beside(_smooth(projected), waiting)
    yield passed(2 * waiting, 2 * waiting)
    yield from _smooth(convolution(f"{base}.fusion", wide, 2 * wide, kernel, side))


def _inverted(
    base: str,
    pair: tuple[int, int],
    expanded: int,
    side: int,
    stride: int,
    *,
    smooth: bool = False,
) -> Steps:
    """Wide inside, narrow outside; what comes in is added where it has the same shape."""
    inputs, outputs = pair
    before = side * stride
    waiting = inputs * side**2 if stride == 1 and inputs == outputs else 0
    wide = convolution(f"{base}.expand_1x1", expanded, inputs, 1, before)
    yield from beside(_smooth(wide), waiting) if smooth else wide
    deep = convolution(
        f"{base}.conv_3x3", expanded, expanded, 3, side, stride=stride, groups=expanded
    )
    yield from beside(_smooth(deep) if smooth else deep, waiting)
    yield from beside(convolution(f"{base}.reduce_1x1", outputs, expanded, 1, side), waiting)


def _smooth(steps: Steps) -> Steps:
    """A convolution and a SiLU, which no engine folds into it as it does a clipped sum."""
    for step in steps:
        yield step
        yield passed(step.stands[1][1], step.stands[1][1])


def _deeplab(config: Config, wide: int, side: int) -> Steps:
    width = config.count("aspp_out_channels", default=_ASPP)
    base, each = "segmentation_head.aspp", width * side**2
    rates = numbers(config, "atrous_rates", (6, 12, 18))
    yield from convolution(f"{base}.convs.0", width, wide, 1, side)
    for number in range(1, len(rates) + 1):
        yield from beside(
            convolution(f"{base}.convs.{number}", width, wide, 3, side), number * each
        )
    pooled = len(rates) + 1
    yield from convolution(f"{base}.convs.{pooled}.conv_1x1", width, wide, 1, 1)
    yield passed((pooled + 1) * each, (pooled + 1) * each)
    yield from convolution(f"{base}.project", width, (pooled + 1) * width, 1, side)
    yield from _named(config, width, side)


def _named(config: Config, width: int, side: int) -> Steps:
    """What each place shows."""
    name = "segmentation_head.classifier"
    yield from convolution(name, labels(config), width, 1, side, bias=True, norm=False)


def _scaled(config: Config, width: int, share: float) -> int:
    return _divisible(config, round(width * share))


def _divisible(config: Config, width: int) -> int:
    step = config.count("depth_divisible_by", default=8)
    return _rounded(width, step, config.count("min_depth", default=8))


def _rounded(width: int, step: int, least: int) -> int:
    """The nearest multiple that is not more than a tenth smaller: MobileNet's own rule."""
    near = max(least, int(width + step / 2) // step * step)
    return near + step if near < 0.9 * width else near
