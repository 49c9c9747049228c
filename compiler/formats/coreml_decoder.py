"""Text generators as stateful programs: a function for one token, one for the prompt's blocks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.compiler.mobile.decoder import CachedFront, open_decoder_front
from edgeward.compiler.mobile.decoder_proof import prove_decoder
from edgeward.compiler.reference_model import load_another
from edgeward.compiler.stage_context import StageContext
from edgeward.compiler.tasks import task_spec

from .coreml_options import WIDEST
from .coreml_program import converted, describe, merge, save

# One token after the other, and a prompt's tokens at once: functions of one package.
STEPS: Mapping[str, int] = {"main": 1, "prefill": 64}


def write_decoder(context: StageContext, params: Mapping[str, Any]) -> CachedFront:
    """Write `model.mlpackage`, whose functions share weights and states; the front of one token.

    Raises UnsupportedError for what has no form with a cache of slots.
    """
    import coremltools as ct

    folder, spec = context.inputs["source"], task_spec(params["task"])
    model = load_another(folder, spec.auto_class)
    length = min(params["cache"], _longest(model))
    kind = np.float32 if params["wide"] else np.float16
    packages: dict[str, Path] = {}
    fronts: list[CachedFront] = []
    for number, (name, tokens) in enumerate(STEPS.items()):
        context.progress(0.1 + 0.4 * number, f"converting {name}")
        front = open_decoder_front(
            spec.name,
            folder,
            model,
            tokens=min(tokens, length),
            context=length,
            stateful=True,
            head_split=WIDEST,
        )
        states = [
            ct.StateType(ct.TensorType(shape=shape, dtype=kind), name=state)
            for state, shape in front.cache.items()
        ]
        made = converted(
            front.module,
            front.inputs,
            front.outputs,
            ios=params["ios"],
            wide=params["wide"],
            states=states,
        )
        describe(made, params["says"], spec.name)
        packages[name] = context.scratch / "functions" / f"{name}.mlpackage"
        packages[name].parent.mkdir(parents=True, exist_ok=True)
        save(made, packages[name])
        fronts.append(front)
    context.progress(0.9, "held against the original")
    prove_decoder(fronts[-1], folder, *fronts[:-1])
    context.progress(0.95, "one package of both")
    merge(packages, context.out / "model.mlpackage")
    return fronts[0]


def _longest(model: Any) -> int:
    config = model.config.get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or 1 << 30)
