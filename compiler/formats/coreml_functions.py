"""Decoders as functions of one package: they share weights, and states where there are any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeward.compiler.mobile.decoder import CachedFront
from edgeward.compiler.stage_context import StageContext

from .coreml_program import converted, describe, merge, save

PACKAGE = "model.mlpackage"
# Core ML has no states of another type, in float32 programs either.
_STATE = np.float16


def write_functions(
    context: StageContext, params: Mapping[str, Any], fronts: Mapping[str, CachedFront]
) -> None:
    """Write `model.mlpackage` with a function for each front end, the first the one by default."""
    import coremltools as ct

    packages = {}
    for number, (name, front) in enumerate(fronts.items()):
        context.progress(0.4 + 0.5 * number / len(fronts), f"converting {name}")
        states = [
            ct.StateType(ct.TensorType(shape=shape, dtype=_STATE), name=state)
            for state, shape in front.cache.items()
            if front.stateful
        ]
        made = converted(
            front.module,
            front.inputs,
            front.outputs,
            ios=params["ios"],
            wide=params["wide"],
            states=states,
        )
        describe(made, params["says"], params["task"])
        packages[name] = context.scratch / "functions" / f"{name}.mlpackage"
        packages[name].parent.mkdir(parents=True, exist_ok=True)
        save(made, packages[name])
    if len(packages) == 1:
        (alone,) = packages.values()
        alone.rename(context.out / PACKAGE)
        return
    context.progress(0.95, "one package of all")
    merge(packages, context.out / PACKAGE)
