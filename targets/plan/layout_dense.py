"""Depth and classes of every place from a transformer's middle layers: DPT and Depth Anything.

Ranftl and others, arXiv:2103.13413; Yang and others, arXiv:2401.10891, as transformers lays them
out. Four layers' tokens become maps of four sizes, joined from the smallest to the picture's own.
"""

from __future__ import annotations

from dataclasses import dataclass

from .config import Config
from .layout_patches import biases_of, cut, grid, layers, scaled_layers, width_of
from .layout_steps import (
    Steps,
    beside,
    convolution,
    head,
    labels,
    linear,
    norm,
    numbers,
    passed,
    table,
    upwards,
)

# Of the default factors each is known; others come as fractions that no array of counts holds.
_FACTORS = (4.0, 2.0, 1.0, 0.5)
_DPT_NECKS, _ANYTHING_NECKS = (96, 192, 384, 768), (48, 96, 192, 384)
_TOLD = 32


@dataclass(frozen=True, slots=True)
class _Neck:
    """The maps' widths and sides, from the largest, and the one width that they are joined at."""

    widths: tuple[int, ...]
    sides: tuple[int, ...]
    fused: int

    @property
    def kept(self) -> int:
        """Numbers of all maps at the width that they are joined at."""
        return sum(self.fused * side**2 for side in self.sides)


def dpt(config: Config) -> Steps | None:
    """Give DPT's steps over its own transformer, None where it has another backbone."""
    other = config.flag("is_hybrid") or config.section("backbone_config") is not None
    return None if other or _factors(config) != _FACTORS else _dpt(config)


def depth_anything(config: Config) -> Steps | None:
    """Give Depth Anything's steps over DINOv2, None where it has another backbone."""
    backbone = config.section("backbone_config")
    if backbone is None or backbone.text("model_type") != "dinov2":
        return None
    return None if _factors(config) != _FACTORS else _anything(config, backbone)


def _factors(config: Config) -> tuple[float, ...]:
    said = config.items().get("reassemble_factors")
    if not isinstance(said, list) or len(said) != len(_FACTORS):
        return _FACTORS if said is None else ()
    return tuple(float(each) if isinstance(each, int | float) else 0.0 for each in said)


def _dpt(config: Config) -> Steps:
    (rows, columns), width = grid(config, 384), width_of(config)
    places = rows * columns + 1
    yield table("embeddings.cls_token", 1, 1, width)
    yield table("embeddings.position_embeddings", 1, places, width)
    yield from cut(config, rows * columns)
    # Four layers' tokens wait for the neck.
    waiting = 4 * places * width
    yield from beside(layers(config, places, biases=biases_of(config)), waiting)
    yield from norm("layernorm", width, places)
    neck = _neck(config, rows, _DPT_NECKS, 256)
    yield from _reassembled(config, neck, width, rows)
    yield from _fused(config, neck)
    side, fused = 2 * neck.sides[0], neck.fused
    if head(config) == "SemanticSegmentation":
        yield from _named(config, fused, side)
        return
    if config.flag("add_projection"):
        yield from convolution("head.projection", fused, fused, 3, side, bias=True, norm=False)
    yield from _depth("head.head", ("0", "2", "4"), fused, _TOLD, side, 2 * side)


def _anything(config: Config, backbone: Config) -> Steps:
    patch, side = config.count("patch_size", default=14), config.maybe("image_size")
    sizes = {**backbone.items(), "patch_size": backbone.count("patch_size", default=patch)}
    fed = Config({**sizes, "image_size": side} if side else sizes, backbone.where)
    (rows, columns), width = grid(fed, 224, patch), width_of(fed)
    places = rows * columns + 1
    yield table("embeddings.cls_token", 1, 1, width)
    yield table("embeddings.mask_token", 1, width)
    yield table("embeddings.position_embeddings", 1, places, width)
    yield from cut(fed, rows * columns)
    yield from beside(scaled_layers(fed, places), 4 * places * width)
    yield from norm("layernorm", width, places)
    neck = _neck(config, rows, _ANYTHING_NECKS, 64)
    inside = config.count("reassemble_hidden_size", default=384)
    yield from _reassembled(config, neck, inside, rows)
    yield from _fused(config, neck)
    told = config.count("head_hidden_size", default=_TOLD)
    names = ("conv1", "conv2", "conv3")
    yield from _depth("head", names, neck.fused, told, 2 * neck.sides[0], rows * patch)


def _neck(config: Config, rows: int, widths: tuple[int, ...], fused: int) -> _Neck:
    found = numbers(config, "neck_hidden_sizes", widths)
    sides = tuple(max(1, -int(-rows * factor // 1)) for factor in _FACTORS)
    return _Neck(found, sides, config.count("fusion_hidden_size", default=fused))


def _reassembled(config: Config, neck: _Neck, width: int, rows: int) -> Steps:
    places = rows**2
    given = 4 * places * width
    reads = config.text("readout_type", "project") == "project"
    projects = reads and config.text("model_type") == "dpt"
    made = 0
    for number, (channels, side) in enumerate(zip(neck.widths, neck.sides, strict=False)):
        base = f"neck.reassemble_stage.layers.{number}"
        if projects:
            name = f"neck.reassemble_stage.readout_projects.{number}.0"
            yield from beside(linear(name, width, 2 * width, places), given + made)
        projected = convolution(
            f"{base}.projection", channels, width, 1, rows, bias=True, norm=False
        )
        yield from beside(projected, given + made)
        if side > rows:
            yield from beside(upwards(f"{base}.resize", channels, side // rows, rows), given + made)
        if side < rows:
            smaller = convolution(
                f"{base}.resize", channels, channels, 3, side, stride=2, bias=True, norm=False
            )
            yield from beside(smaller, given + made)
        made += channels * side**2
    for number, (channels, side) in enumerate(zip(neck.widths, neck.sides, strict=False)):
        joined = convolution(f"neck.convs.{number}", neck.fused, channels, 3, side, norm=False)
        yield from beside(joined, made)


def _fused(config: Config, neck: _Neck) -> Steps:
    """From the smallest map: the next is added, all is made twice as large."""
    kept = neck.kept
    for number, side in enumerate(reversed(neck.sides)):
        base, width = f"neck.fusion_stage.layers.{number}", neck.fused
        places = side**2
        kept -= width * places
        for layer in (1, 2):
            added = _residual(config, f"{base}.residual_layer{layer}", width, side)
            unused = layer == 1 and number == 0
            waiting = kept + width * places
            if unused:
                yield from (table(t.name, *t.shape) for step in added for t in step.tensors)
            else:
                yield from beside(added, waiting)
        yield passed(kept, 5 * width * places)
        projection = convolution(
            f"{base}.projection", width, width, 1, 2 * side, bias=True, norm=False
        )
        yield from beside(projection, kept)


def _residual(config: Config, base: str, width: int, side: int) -> Steps:
    normed = config.flag("use_batch_norm_in_fusion_residual")
    bias = config.flag("use_bias_in_fusion_residual", not normed)
    for number in (1, 2):
        yield from convolution(
            f"{base}.convolution{number}", width, width, 3, side, bias=bias, norm=normed
        )


def _depth(
    base: str, names: tuple[str, str, str], width: int, told: int, side: int, full: int
) -> Steps:
    half = width // 2
    yield from convolution(f"{base}.{names[0]}", half, width, 3, side, bias=True, norm=False)
    yield passed(half * side**2, half * full**2)
    yield passed(half * full**2, half * full**2)
    yield from convolution(f"{base}.{names[1]}", told, half, 3, full, bias=True, norm=False)
    yield from convolution(f"{base}.{names[2]}", 1, told, 1, full, bias=True, norm=False)


def _named(config: Config, width: int, side: int) -> Steps:
    count = labels(config)
    yield from convolution("head.head.0", width, width, 3, side)
    yield from convolution("head.head.4", count, width, 1, side, bias=True, norm=False)
    yield passed(count * side**2 * 5)
    if config.flag("use_auxiliary_head", True):
        trained = [
            *convolution("auxiliary_head.head.0", width, width, 3, side),
            *convolution("auxiliary_head.head.4", count, width, 1, side, bias=True, norm=False),
        ]
        yield from (table(t.name, *t.shape) for step in trained for t in step.tensors)
