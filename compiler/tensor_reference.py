"""The reference stage of every task whose outputs are compared as they are.

Runs inside the format's toolchain. Inputs come from the model's own tokenizer or from seeded
pictures and sounds, outputs from the float32 torch model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeward.errors import SourceError
from edgeward.runtimes.engines.base import Tensor
from edgeward.runtimes.proof.sketch import Sketch, sketch
from edgeward.runtimes.proof.tensors import (
    TensorCase,
    TensorCases,
    hides_tokens,
    with_tokens,
    without_hidden,
    write_cases,
)

from .modalities.base import Given, open_modality
from .reference_model import load_model
from .stage_context import StageContext
from .tasks import TaskSpec, task_spec

EVALUATION, UNTRACED = "evaluation", "untraced"


def reference(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write `golden/`, and the same below `evaluation/` and `untraced/`."""
    spec, folder = task_spec(params["task"]), context.inputs["source"]
    model = load_model(folder, spec.auto_class)
    modality = open_modality(spec, folder, model)
    modality.fit(params.get("sizes", {}))
    named = dict(zip(params["golden_names"], params["golden_texts"], strict=True))
    padding = getattr(model.config.get_text_config(), "pad_token_id", None) or 0
    sets = {
        "": modality.golden(named),
        EVALUATION: modality.evaluation(params["evaluation_texts"]),
        UNTRACED: modality.untraced(params["seed"]),
    }
    for number, (place, given) in enumerate(sets.items()):
        context.progress(0.2 + 0.25 * number, place or "golden inputs")
        cases = _cases(model, spec, given)
        write_cases(context.out / place, TensorCases(cases, spec.classes, padding))
    return {
        "shapes": [list(_shape(one)) for one in sets[UNTRACED]],
        "cases": len(sets[""]),
        "summary": f"torch float32, {len(sets[''])} golden and {len(sets[EVALUATION])} "
        "evaluation cases",
    }


def _cases(model: Any, spec: TaskSpec, given: Sequence[Given]) -> tuple[TensorCase, ...]:
    """Only a case with hidden tokens waits for the others: they tell which outputs have tokens."""
    inputs = [{name: tensor.numpy() for name, tensor in one.tensors.items()} for one in given]
    shapes, kept = [], dict[int, dict[str, Sketch]]()
    waiting: dict[int, dict[str, Tensor]] = {}
    for number, one in enumerate(given):
        outputs = _outputs(model, spec, one)
        shapes.append({name: value.shape for name, value in outputs.items()})
        if hides_tokens(inputs[number]):
            waiting[number] = outputs
        else:
            kept[number] = _sketches(outputs, spec)
    by_token = with_tokens(inputs, shapes)
    for number, outputs in waiting.items():
        outputs |= {name: without_hidden(outputs[name], inputs[number]) for name in by_token}
        kept[number] = _sketches(outputs, spec)
    return tuple(
        TensorCase(one.name, fed, kept[number], one.texts)
        for number, (one, fed) in enumerate(zip(given, inputs, strict=True))
    )


def _sketches(outputs: Mapping[str, Tensor], spec: TaskSpec) -> dict[str, Sketch]:
    return {name: sketch(value, spec.classes.get(name)) for name, value in outputs.items()}


def _outputs(model: Any, spec: TaskSpec, given: Given) -> dict[str, Tensor]:
    import torch

    with torch.inference_mode():
        results = model(**given.tensors)
    outputs = {name: np.asarray(results[name].float().numpy()) for name in spec.outputs}
    for name, value in outputs.items():
        if not np.isfinite(value).all():
            raise SourceError(
                f"The model's {name} is not finite for {given.name}",
                why="its weights hold NaN or infinities, or it overflows in float32",
            )
    return outputs


def _shape(given: Given) -> Sequence[int]:
    return tuple(next(iter(given.tensors.values())).shape)
