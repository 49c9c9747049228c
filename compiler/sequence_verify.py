"""The verify stage of encoders with a decoder, and what is timed of them.

Runs inside an engine's environment: no torch, no transformers, the runtime library alone.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.runtimes.engines.base import EngineSession
from edgeward.runtimes.proof.compare import relative_difference
from edgeward.runtimes.proof.generation import TYPICAL_TOKENS
from edgeward.runtimes.proof.sequences import (
    Task,
    read_cases,
    reading,
    sequence_metrics,
    typical,
)
from edgeward.runtimes.tasks.registry import open_task
from edgeward.runtimes.tasks.sequences import SequenceGraph
from edgeward.runtimes.tasks.speech import Transcriber
from edgeward.runtimes.tasks.text_to_text import TextToText

from .measured import Timed, open_engine
from .sequence_reference import EVALUATION, SHAPES_NAME
from .stage_context import StageContext

_DECODED, _ROUNDS = 8, 5


def verify(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return every metric of the artifact against the reference."""
    engine = open_engine(context.inputs["model"], params)
    task = _task(context, params, engine)
    reference = context.inputs["reference"]
    context.progress(0.2, "golden inputs")
    metrics = sequence_metrics(task, read_cases(reference))
    context.progress(0.5, "evaluation set")
    evaluated = sequence_metrics(task, read_cases(reference / EVALUATION))
    metrics |= {f"eval_{name}": value for name, value in evaluated.items()}
    context.progress(0.8, "shapes that were not traced")
    metrics["untraced_relative_difference"] = _untraced(task.graph, reference)
    for name, value in metrics.items():
        context.metric(name, value)
    ref = engine.ref
    return {
        "metrics": metrics,
        "engine": ref.model_dump(mode="json"),
        "summary": f"{ref.name} {ref.version}: KL {metrics['eval_kl_mean']:.2g}, same token "
        f"{metrics['eval_top1_agreement']:.1%}, other words {metrics['eval_wer']:.1%}",
    }


def timed(context: StageContext, params: Mapping[str, Any]) -> Timed:
    """Return the middle golden case, read and some tokens written, as the request that is timed."""
    case = typical(read_cases(context.inputs["reference"]))

    def request_of(engine: EngineSession) -> Callable[[], object]:
        each = reading(_task(context, params, engine), case)
        return lambda: each.continued((), TYPICAL_TOKENS)

    def figures_of(engine: EngineSession) -> dict[str, float]:
        each = reading(_task(context, params, engine), case)
        return _phases(each.task.graph, each.inputs, each.rules.prefix)

    what = f"{case.written.name} and {TYPICAL_TOKENS} tokens"
    return Timed(request_of, TYPICAL_TOKENS, what, figures_of=figures_of)


def _task(context: StageContext, params: Mapping[str, Any], engine: EngineSession) -> Task:
    task = open_task(params["task"], context.inputs["assets"], engine)
    if not isinstance(task, (TextToText, Transcriber)):
        raise TypeError(f"{params['task']} is no task of an encoder and a decoder")
    return task


def _phases(
    graph: SequenceGraph, inputs: Mapping[str, Any], prefix: tuple[int, ...]
) -> dict[str, float]:
    """Reading and writing apart, medians in milliseconds: TTFT with the reading, TPOT after it."""
    reads: list[float] = []
    firsts: list[float] = []
    steps: list[float] = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        target = graph.read(inputs)
        read = time.perf_counter()
        target.next_logits(prefix)
        marks = [time.perf_counter()]
        for _ in range(_DECODED):
            target.next_logits(prefix[:1])
            marks.append(time.perf_counter())
        reads.append((read - began) * 1e3)
        firsts.append((marks[0] - began) * 1e3)
        steps += [(after - before) * 1e3 for before, after in itertools.pairwise(marks)]
    return {
        "encoder_ms": statistics.median(reads),
        "ttft_ms": statistics.median(firsts),
        "tpot_ms": statistics.median(steps),
    }


def _untraced(graph: SequenceGraph, reference: Path) -> float:
    """The largest difference over shapes that were not traced, the past in its cache."""
    from safetensors.numpy import load_file

    tensors = load_file(reference / SHAPES_NAME)
    worst = 0.0
    for number in sorted({name.split(".")[0] for name in tensors}, key=int):
        prefix = f"{number}.in."
        inputs = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
        ids, past = tensors[f"{number}.ids"], int(tensors[f"{number}.past"])
        target = graph.read_rows(inputs)
        if past:
            target.step(np.ascontiguousarray(ids[:, :past]))
        logits = target.step(np.ascontiguousarray(ids[:, past:]))
        worst = max(worst, relative_difference(tensors[f"{number}.logits"], logits))
    return worst
