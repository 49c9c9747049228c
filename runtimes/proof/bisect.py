"""Which layer of one bundle departs first from another bundle of the same model."""

from __future__ import annotations

import numpy as np

from edgeward.errors import UnsupportedError, UsageError
from edgeward.runtimes.bundle.manifest import Manifest, TensorSpec
from edgeward.runtimes.bundle.read import Bundle
from edgeward.runtimes.engines.base import Tensor
from edgeward.runtimes.engines.bucketed import plan_of

from .bisect_onnx import bisect
from .bisect_sequences import bisect_sequences
from .bisect_words import Bisection
from .registry import proof_for

_DTYPES = {"float": "float32", "double": "float64"}


def bisect_bundles(artifact: Bundle, original: Bundle, *, threads: int = 1) -> Bisection:
    """Run one of the artifact's golden cases through both graphs, layer by layer.

    Raises UsageError where they are not of one model, UnsupportedError for a format whose layers
    cannot be looked into, and what `bisect` raises.
    """
    for bundle in (artifact, original):
        if bundle.manifest.recipe.format != "onnx":
            raise UnsupportedError(
                f"The layers of {bundle.path} cannot be compared",
                why=f"its format is {bundle.manifest.recipe.format}, not onnx",
            )
    mine, other = artifact.manifest, original.manifest
    if (mine.source.weights_sha256, mine.task) != (other.source.weights_sha256, other.task):
        raise UsageError(
            "The bundles are not of one model",
            why=f"{mine.source.id} for {mine.task}, {other.source.id} for {other.task}",
        )
    if mine.parts:
        return bisect_sequences(artifact, original, threads=threads)
    case = proof_for(mine.task).sample(artifact.path)
    inputs = {spec.name: case.get(spec.name, _nothing(spec)) for spec in mine.inputs}
    return bisect(original.entry, artifact.entry, _shaped(inputs, mine, other), threads=threads)


def _shaped(inputs: dict[str, Tensor], mine: Manifest, other: Manifest) -> dict[str, Tensor]:
    """Inputs as both entries take them: cut and padded where shapes are fixed."""
    fixed = [_entry_sizes(one) for one in (mine, other) if one.buckets]
    if not fixed:
        return inputs
    if any(sizes != fixed[0] for sizes in fixed):
        raise UsageError(
            "The bundles have other shapes", why="compare with one of dynamic or the same shapes"
        )
    plan = plan_of(mine if mine.buckets else other)
    cut = {
        name: array[tuple(slice(fixed[0].get(str(axis))) for axis in plan.inputs[name])]
        for name, array in inputs.items()
    }
    return {name: plan.fed(name, array, fixed[0]) for name, array in cut.items()}


def _entry_sizes(manifest: Manifest) -> dict[str, int]:
    return next((b.sizes for b in manifest.buckets if b.path == manifest.entry), {})


def _nothing(spec: TensorSpec) -> Tensor:
    """What a case leaves out: a cache that holds nothing, a number that asks for nothing."""
    lengths = {"batch": 1}
    shape = [axis if isinstance(axis, int) else lengths.get(axis, 0) for axis in spec.shape]
    return np.zeros(shape, _DTYPES.get(spec.dtype, spec.dtype))
