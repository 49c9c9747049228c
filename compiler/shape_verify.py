"""The verify stage of fixed shapes: the task's own proof, through every graph in turn.

Runs inside an engine's environment: no torch, no transformers, the runtime library alone.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from edgeward.runtimes.bundle.manifest import Bucket
from edgeward.runtimes.engines.bucketed import Listed, listed, plan_of

from .stage_context import StageContext

_LESS_IS_BETTER = ("difference", "error", "kl_", "cer", "wer", "ratio")


def verify(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return every metric, the worst over all graphs, and the shapes that were run.

    In its turn a graph stands beside the largest alone: it runs every case that it holds, padded
    to its shape, and the largest those that are longer. Where a length has to be exact, the largest
    is that of each length.
    """
    module, _, name = params["verify"].partition(":")
    proof = getattr(importlib.import_module(module), name)
    shapes = params["shapes"]
    turns = turns_of(listed(shapes))
    found: list[dict[str, Any]] = []
    for number, buckets in enumerate(turns):
        context.progress(number / len(turns), buckets[-1].path)
        told = [bucket.model_dump(mode="json") for bucket in buckets]
        found.append(proof(context, {**params, "shapes": {**shapes, "buckets": told}}))
    metrics = worst([one["metrics"] for one in found])
    for metric, value in metrics.items():
        context.metric(metric, value)
    first = shapes["inputs"][0]["shape"]
    return {
        "metrics": metrics,
        "engine": found[0]["engine"],
        "shapes": [[bucket["sizes"].get(a, a) for a in first] for bucket in shapes["buckets"]],
        "summary": f"{len(turns)} shapes; the largest: {found[0]['summary']}",
    }


def turns_of(shapes: Listed) -> list[list[Bucket]]:
    """Return which graphs stand together, one turn for each of them; it is the last of its turn."""
    plan = plan_of(shapes)
    padded = {*plan.row_axes, *plan.masked_axes}

    def exact(bucket: Bucket) -> tuple[int, ...]:
        return tuple(size for axis, size in bucket.sizes.items() if axis not in padded)

    largest: dict[tuple[int, ...], Bucket] = {}
    for bucket in sorted(shapes.buckets, key=lambda one: math.prod(one.sizes.values())):
        largest[exact(bucket)] = bucket
    return [
        [*(other for other in largest.values() if other != bucket), bucket]
        for bucket in shapes.buckets
    ]


def worst(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return each metric's worst value."""
    return {
        name: (max if any(word in name for word in _LESS_IS_BETTER) else min)(
            one[name] for one in metrics
        )
        for name in metrics[0]
    }
