"""Attention to fewer places than look, in stages: SegFormer, and GLPN that tells depth.

Xie and others, arXiv:2105.15203; Kim and others, arXiv:2201.07436, as transformers lays them out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgeward.errors import SourceError

from .config import Config
from .layout_steps import (
    MAP,
    ROWS,
    SEQUENCE,
    Step,
    Steps,
    attention,
    beside,
    classifier,
    convolution,
    depths,
    halved,
    head,
    labels,
    linear,
    norm,
    numbers,
    passed,
    side_of,
)

_JOINED = "joined"


@dataclass(frozen=True, slots=True)
class _Stage:
    width: int
    depth: int
    side: int
    stride: int
    patch: int
    heads: int
    reduction: int
    ratio: int


def _stages(config: Config) -> list[_Stage]:
    """The stages; SourceError where the arrays of the configuration name different ones."""
    widths = numbers(config, "hidden_sizes", (32, 64, 160, 256))
    arrays = [
        widths,
        depths(config, (2, 2, 2, 2), widths),
        numbers(config, "strides", (4, 2, 2, 2)),
        numbers(config, "patch_sizes", (7, 3, 3, 3)),
        numbers(config, "num_attention_heads", (1, 2, 5, 8)),
        numbers(config, "sr_ratios", (8, 4, 2, 1)),
        numbers(config, "mlp_ratios", (4, 4, 4, 4)),
    ]
    if len({len(each) for each in arrays}) > 1 or not all(all(each) for each in arrays[2:]):
        raise SourceError(f"{config.where}: the stages of {config.text('model_type')} do not match")
    side, found = side_of(config), []
    for width, depth, stride, patch, heads, reduction, ratio in zip(*arrays, strict=True):
        side = halved(side, stride)
        found.append(_Stage(width, depth, side, stride, patch, heads, reduction, ratio))
    return found


def segformer(config: Config) -> Steps:
    """Give SegFormer's steps, with the head that joins all stages where it names places."""
    stages = _stages(config)
    yield from _encoder(config, stages)
    yield from classifier(config, stages[-1].width)
    if head(config) == "SemanticSegmentation":
        yield from _joined(config, stages)


def _joined(config: Config, stages: list[_Stage]) -> Steps:
    """Each stage's map is made as wide and as large as the first one's; all are joined."""
    wide, side = config.count("decoder_hidden_size", default=256), stages[0].side
    each, name = wide * side**2, "decode_head.linear_projections"
    kept = sum(stage.width * stage.side**2 for stage in stages)
    for made, (number, stage) in enumerate(reversed(list(enumerate(stages)))):
        small = wide * stage.side**2
        steps = [
            *linear(f"{name}.{number}", wide, stage.width, stage.side**2),
            passed(small, each, form=_JOINED),
        ]
        for step in beside(steps, kept):
            yield replace(step, waits=(*step.waits, *[(_JOINED, each)] * made))
    joined = len(stages) * each
    yield Step(stands=(*[(_JOINED, each)] * len(stages), (MAP, joined)))
    yield passed(joined, joined)
    yield from convolution("decode_head.linear_fuse", wide, len(stages) * wide, 1, side)
    yield from convolution(
        "decode_head.classifier", labels(config), wide, 1, side, bias=True, norm=False
    )


def glpn(config: Config) -> Steps:
    """Give GLPN's steps: from the smallest map to the picture's size, two maps chosen from each."""
    stages = _stages(config)
    yield from _encoder(config, stages)
    if head(config):
        yield from _decoder(config, stages)


def _decoder(config: Config, stages: list[_Stage]) -> Steps:
    wide, kept = config.count("decoder_hidden_size", default=64), 0
    for number, stage in enumerate(reversed(stages)):
        base, places = f"decoder.stages.{number}", stage.side**2
        if stage.width != wide:
            yield from convolution(
                f"{base}.convolution", wide, stage.width, 1, stage.side, bias=True, norm=False
            )
        if number:
            yield from _chosen(f"{base}.fusion", wide, stage.side)
        kept = wide * 4 * places
        yield passed(wide * places, kept)
    side = 4 * stages[0].side
    yield passed(kept, wide * side**2)
    yield from convolution("head.head.0", wide, wide, 3, side, bias=True, norm=False)
    yield from convolution("head.head.2", 1, wide, 3, side, bias=True, norm=False)


def _chosen(base: str, width: int, side: int) -> Steps:
    both = 2 * width * side**2
    yield passed(2 * both)
    first = convolution(f"{base}.convolutional_layer1", width, 2 * width, 3, side, bias=True)
    yield from beside(first, both)
    second = convolution(f"{base}.convolutional_layer2", width // 2, width, 3, side, bias=True)
    yield from beside(second, both)
    third = convolution(
        f"{base}.convolutional_layer3", 2, width // 2, 3, side, bias=True, norm=False
    )
    yield from beside(third, both)
    yield passed(2 * both)


def _encoder(config: Config, stages: list[_Stage]) -> Steps:
    wide, kept = config.count("num_channels", default=3), 0
    for number, stage in enumerate(stages):
        base, places = f"stages.{number}", stage.side**2
        cut = convolution(
            f"{base}.patch_embeddings", stage.width, wide, stage.patch, stage.side,
            stride=stage.stride, bias=True, norm=False,
        )  # fmt: skip
        yield from beside(cut, kept)
        yield from beside(norm(f"{base}.patch_embeddings", stage.width, places), kept)
        for layer in range(stage.depth):
            yield from beside(_block(f"{base}.blocks.{layer}", stage), kept)
        yield from beside(norm(f"{base}.layer_norm", stage.width, places), kept)
        wide = stage.width
        kept += wide * places if head(config) != "ImageClassification" else 0


def _block(base: str, stage: _Stage) -> Steps:
    width, places = stage.width, stage.side**2
    waiting, size = width * places, width * stage.ratio
    yield from norm(f"{base}.layernorm_before", width, places)
    few, keys = stage.side // stage.reduction, places
    if stage.reduction > 1:
        keys = few**2
        name = f"{base}.attention.sequence_reduction"
        reduced = convolution(
            name, width, width, stage.reduction, few, stride=stage.reduction, bias=True, norm=False
        )
        yield from beside(reduced, waiting, SEQUENCE)
        yield from norm(name, width, keys)
    seen = attention(base, width, places, stage.heads, keys=keys, source=keys)
    yield from beside(seen, waiting, SEQUENCE)
    yield from norm(f"{base}.layernorm_after", width, places)
    yield from beside(linear(f"{base}.mlp.fc1", size, width, places), waiting, SEQUENCE)
    deep = convolution(
        f"{base}.mlp.dwconv", size, size, 3, stage.side, groups=size, bias=True, norm=False
    )
    yield from beside(deep, waiting, SEQUENCE)
    gelu = [passed(size * places, size * places, form=ROWS)]
    yield from beside(gelu, waiting, SEQUENCE)
    yield from beside(linear(f"{base}.mlp.fc2", width, size, places), waiting, SEQUENCE)
