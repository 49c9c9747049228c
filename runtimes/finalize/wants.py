"""Whether a bundle is to be built on the device, and how: what its recipe says."""

from __future__ import annotations

from dataclasses import dataclass

from edgeward.errors import UsageError
from edgeward.runtimes.bundle.manifest import Manifest
from edgeward.runtimes.bundle.read import Bundle

from .ranges import InputShapes, format_ranges, input_shapes, parse_ranges

TENSORRT = "tensorrt"
ENGINE_OPTION, RANGES_OPTION = "engine", "ranges"
_FORMAT = "onnx"


@dataclass(frozen=True, slots=True)
class Wants:
    """The engine that is to be built, and the shapes that it is built for."""

    shapes: tuple[InputShapes, ...]
    ranges: str


def is_built_on_device(manifest: Manifest) -> bool:
    """Whether the recipe asks for an engine that only the device can build."""
    return manifest.recipe.options.get(ENGINE_OPTION) == TENSORRT


def wants_of(bundle: Bundle) -> Wants:
    """Return what is to be built; UsageError where the bundle is not made for that."""
    manifest = bundle.manifest
    if manifest.recipe.format != _FORMAT or not is_built_on_device(manifest):
        raise UsageError(
            f"{bundle.path} is not made for TensorRT",
            why=f"its recipe is {manifest.recipe.format} {manifest.recipe.precision}, "
            "without an engine that is built on the device",
            next="edgeward compile MODEL --target jetson-orin-nano --precision fp16",
        )
    if manifest.parts:
        raise UsageError(
            f"{bundle.path} has several graphs", why="TensorRT engines are built of one graph"
        )
    ranges = parse_ranges(str(manifest.recipe.options.get(RANGES_OPTION, "")))
    return Wants(input_shapes(manifest.inputs, ranges), format_ranges(ranges))
