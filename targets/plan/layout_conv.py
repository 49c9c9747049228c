"""Residual convolutions from their configuration alone: tensors, and operations of one picture.

He and others, Deep Residual Learning, arXiv:1512.03385, as transformers' ResNet lays them out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgeward.errors import SourceError

from .config import Config
from .facts import Tensor

PICTURE = 224
_SHRINK = 4


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution without bias and the norm behind it: `side` is its output's."""

    name: str
    outputs: int
    inputs: int
    kernel: int
    side: int

    @property
    def operations(self) -> int:
        """Operations of one picture: a product and a sum for each weight and place."""
        return 2 * self.outputs * self.inputs * self.kernel**2 * self.side**2


def resnet(config: Config) -> Iterator[Tensor]:
    """Give the tensors of a ResNet without its head."""
    for each in convolutions(config):
        columns = each.inputs * each.kernel**2
        yield Tensor(f"{each.name}.convolution.weight", (each.outputs, columns))
        yield Tensor(f"{each.name}.normalization.weight", (each.outputs,))
        yield Tensor(f"{each.name}.normalization.bias", (each.outputs,))


def stem_side(config: Config) -> int:
    """Return the side of what the stages begin with: a stride of two, and pooling by two."""
    return _halved(_halved(config.count("image_size", default=PICTURE)))


def convolutions(config: Config) -> Iterator[Convolution]:
    """Give every convolution; SourceError where stages and their widths do not match."""
    depths, widths = config.numbers("depths"), config.numbers("hidden_sizes")
    if not depths or len(depths) != len(widths):
        raise SourceError(f"{config.where}: depths and hidden_sizes must name the same stages")
    wide, side = config.count("embedding_size", default=64), stem_side(config)
    picture = config.count("image_size", default=PICTURE)
    channels = config.count("num_channels", default=3)
    yield Convolution("embedder.embedder", wide, channels, 7, _halved(picture))
    for number, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        shrinks = number > 0 or config.flag("downsample_in_first_stage")
        side = _halved(side) if shrinks else side
        for layer in range(depth):
            base = f"encoder.stages.{number}.layers.{layer}"
            yield from _block(config, base, (wide, width), side, shrinks and layer == 0)
            wide = width


def _block(
    config: Config, base: str, widths: tuple[int, int], side: int, shrinks: bool
) -> Iterator[Convolution]:
    inputs, outputs = widths
    if shrinks or inputs != outputs:
        yield Convolution(f"{base}.shortcut", outputs, inputs, 1, side)
    if config.text("layer_type", "bottleneck") == "basic":
        yield Convolution(f"{base}.layer.0", outputs, inputs, 3, side)
        yield Convolution(f"{base}.layer.1", outputs, outputs, 3, side)
        return
    narrow = outputs // _SHRINK
    first = 2 * side if shrinks and not config.flag("downsample_in_bottleneck") else side
    yield Convolution(f"{base}.layer.0", narrow, inputs, 1, first)
    yield Convolution(f"{base}.layer.1", narrow, narrow, 3, side)
    yield Convolution(f"{base}.layer.2", outputs, narrow, 1, side)


def _halved(side: int) -> int:
    return -(-side // 2)
