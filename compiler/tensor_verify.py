"""The verify stage, and what is timed, of every task whose outputs are compared as they are.

Runs inside an engine's environment: no torch, no transformers, the runtime library alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgeward.runtimes.engines.base import EngineSession
from edgeward.runtimes.engines.bucketed import longest_sequence
from edgeward.runtimes.proof.tensors import read_cases, tensor_metrics, typical
from edgeward.runtimes.tasks.tokens import TextTokenizer

from .measured import Timed, open_engine
from .stage_context import StageContext
from .tasks import task_spec
from .tensor_reference import EVALUATION, UNTRACED


def verify(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return every metric of the artifact against the reference."""
    engine = open_engine(context.inputs["model"], params)
    reference = context.inputs["reference"]
    one_text = task_spec(params["task"]).modality in ("text", "text-pair")
    assets = context.inputs["assets"]
    tokenizer = TextTokenizer(assets, longest_sequence(engine)) if one_text else None
    context.progress(0.2, "golden inputs")
    metrics = tensor_metrics(engine, read_cases(reference), tokenizer, assets)
    context.progress(0.6, "evaluation set")
    evaluated = tensor_metrics(
        engine, read_cases(reference / EVALUATION), folder=assets, apart=False
    )
    metrics |= {f"eval_{name}": value for name, value in evaluated.items()}
    context.progress(0.8, "shapes that were not traced")
    untraced = tensor_metrics(engine, read_cases(reference / UNTRACED))
    metrics["untraced_relative_difference"] = untraced["relative_difference"]
    for name, value in metrics.items():
        context.metric(name, value)
    ref = engine.ref
    picked = metrics.get("eval_top1_agreement")
    also = "" if picked is None else f", same class {picked:.1%}"
    return {
        "metrics": metrics,
        "engine": ref.model_dump(mode="json"),
        "summary": f"{ref.name} {ref.version}: cosine {metrics['eval_cosine_mean']:.6f} mean, "
        f"{metrics['cosine_min']:.4f} worst{also}",
    }


def timed(context: StageContext, params: Mapping[str, Any]) -> Timed:
    """Return the middle golden case as the request that is timed."""
    del params
    case = typical(read_cases(context.inputs["reference"]))

    def request_of(engine: EngineSession) -> Callable[[], object]:
        inputs = {name: case.inputs[name] for name in engine.inputs}
        return lambda: engine.run(inputs)

    tokens = case.inputs["input_ids"].size if "input_ids" in case.inputs else 0
    return Timed(request_of, tokens, case.name)
