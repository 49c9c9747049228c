"""The verify stage of vectors: the artifact in its real engine, beside the reference.

Runs inside an engine's environment: no torch, no transformers, the runtime library alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.runtimes.engines.base import EngineSession
from edgeward.runtimes.proof.compare import compare_vectors, rank_agreement, relative_difference
from edgeward.runtimes.proof.vectors import golden_metrics, read_cases
from edgeward.runtimes.tasks.embedding import HIDDEN_STATES, Embedder, prepare_texts
from edgeward.runtimes.tasks.pooling import read_pipeline
from edgeward.runtimes.tasks.tokens import TextTokenizer

from .measured import Timed, open_engine
from .reference import EVALUATION_NAME, SHAPES_NAME
from .stage_context import StageContext

_BATCH = 16


def verify(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return every metric of the artifact against the reference."""
    engine = open_engine(context.inputs["model"], params)
    embedder = Embedder(context.inputs["assets"], engine)
    reference = context.inputs["reference"]
    context.progress(0.2, "golden inputs")
    metrics = golden_metrics(embedder, read_cases(reference))
    context.progress(0.6, "evaluation set")
    metrics |= _evaluation(embedder, reference, params["evaluation_texts"])
    context.progress(0.8, "shapes that were not traced")
    metrics["untraced_relative_difference"] = _untraced(engine, reference)
    for name, value in metrics.items():
        context.metric(name, value)
    ref = engine.ref
    return {
        "metrics": metrics,
        "engine": ref.model_dump(mode="json"),
        "summary": f"{ref.name} {ref.version}: cosine {metrics['eval_cosine_mean']:.6f} mean, "
        f"{metrics['cosine_min']:.4f} worst, token ids {metrics['token_ids_equal']:.0%}",
    }


def timed(context: StageContext, params: Mapping[str, Any]) -> Timed:
    """Return the embedding of one text as the request that is timed."""
    assets = context.inputs["assets"]
    prepared = prepare_texts(read_pipeline(assets), [params["text"]])
    tokens = TextTokenizer(assets)(prepared).tokens

    def request_of(engine: EngineSession) -> Callable[[], object]:
        embedder = Embedder(assets, engine)
        return lambda: embedder.embed_batch(prepared)

    return Timed(request_of, tokens, f"{tokens} tokens")


def _evaluation(embedder: Embedder, reference: Path, texts: Sequence[str]) -> dict[str, float]:
    from safetensors.numpy import load_file

    wanted = load_file(reference / EVALUATION_NAME)["vectors"]
    prepared = embedder.prepare(texts)
    batches = [prepared[at : at + _BATCH] for at in range(0, len(prepared), _BATCH)]
    actual = np.concatenate([embedder.embed_batch(batch)[0] for batch in batches])
    compared = {f"eval_{name}": value for name, value in compare_vectors(wanted, actual).items()}
    return {**compared, "eval_rank_agreement": rank_agreement(wanted, actual)}


def _untraced(engine: EngineSession, reference: Path) -> float:
    from safetensors.numpy import load_file

    tensors = load_file(reference / SHAPES_NAME)
    worst = 0.0
    for number in sorted({name.split(".")[0] for name in tensors}):
        inputs = {name: tensors[f"{number}.{name}"] for name in engine.inputs}
        hidden = np.asarray(engine.run(inputs)[HIDDEN_STATES], np.float32)
        real = inputs["attention_mask"].astype(bool)
        wanted = tensors[f"{number}.hidden"]
        worst = max(worst, relative_difference(wanted[real], hidden[real]))
    return worst
