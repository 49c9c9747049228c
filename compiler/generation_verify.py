"""The verify stage of text generation, and what is timed of it.

Runs inside an engine's environment: no torch, no transformers, the runtime library alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.runtimes.engines.base import EngineSession
from edgeward.runtimes.proof.compare import relative_difference
from edgeward.runtimes.proof.generation import (
    TYPICAL_TOKENS,
    generation_metrics,
    golden_metrics,
    read_cases,
)
from edgeward.runtimes.tasks.decoder import Decoder, DecodingState
from edgeward.runtimes.tasks.generation import Generator

from .generation_padded import padded_metrics
from .generation_reference import EVALUATION, SHAPES_NAME
from .measured import Timed, open_engine
from .stage_context import StageContext

_PROMPT, _DECODED, _ROUNDS = 128, 16, 5


def verify(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return every metric of the artifact against the reference."""
    engine = open_engine(context.inputs["model"], params)
    generator = Generator(context.inputs["assets"], engine)
    reference = context.inputs["reference"]
    context.progress(0.2, "golden prompts")
    metrics = golden_metrics(generator, read_cases(reference))
    context.progress(0.5, "evaluation passages")
    passages = read_cases(reference / EVALUATION)
    evaluated = generation_metrics(generator, passages) | padded_metrics(generator.graph, passages)
    metrics |= {f"eval_{name}": value for name, value in evaluated.items()}
    context.progress(0.8, "shapes that were not traced")
    shapes, metrics["untraced_relative_difference"] = _untraced(generator.graph, reference)
    for name, value in metrics.items():
        context.metric(name, value)
    ref = engine.ref
    return {
        "metrics": metrics,
        "shapes": shapes,
        "engine": ref.model_dump(mode="json"),
        "summary": f"{ref.name} {ref.version}: KL {metrics['eval_kl_mean']:.2g}, same token "
        f"{metrics['eval_top1_agreement']:.1%}, perplexity "
        f"{metrics['eval_perplexity_ratio']:.4f} times the original's",
    }


def timed(context: StageContext, params: Mapping[str, Any]) -> Timed:
    """Return some tokens after a prompt as the request that is timed."""
    assets, text = context.inputs["assets"], params["text"]

    def request_of(engine: EngineSession) -> Callable[[], object]:
        generator = Generator(assets, engine)
        ids = generator.encode(text)
        return lambda: generator.continued(ids, TYPICAL_TOKENS)

    def figures_of(engine: EngineSession) -> dict[str, float]:
        generator = Generator(assets, engine)
        return _phases(generator.graph, _prompt(generator, text))

    return Timed(
        request_of, TYPICAL_TOKENS, f"a prompt and {TYPICAL_TOKENS} tokens", figures_of=figures_of
    )


def _prompt(generator: Generator, text: str) -> list[int]:
    ids = generator.encode(text)
    ids = ids * (1 + _PROMPT // len(ids))
    room = generator.context_limit or len(ids)
    return ids[: max(min(_PROMPT, room - _DECODED), 1)]


def _phases(graph: Decoder, ids: Sequence[int]) -> dict[str, float]:
    """Prefill and decode apart, medians in milliseconds: TTFT after the prompt, TPOT after it."""
    prefills: list[float] = []
    steps: list[float] = []
    for _ in range(_ROUNDS):
        state = graph.start()
        prefills.append(_milliseconds(state, ids))
        steps += [_milliseconds(state, ids[:1]) for _ in range(_DECODED)]
    return {
        "prompt_tokens": float(len(ids)),
        "ttft_ms": statistics.median(prefills),
        "tpot_ms": statistics.median(steps),
    }


def _milliseconds(state: DecodingState, ids: Sequence[int]) -> float:
    began = time.perf_counter()
    state.next_logits(ids)
    return (time.perf_counter() - began) * 1e3


def _untraced(graph: Decoder, reference: Path) -> tuple[list[list[int]], float]:
    """The (rows, past, new) that the graph takes, and its largest difference over them."""
    from safetensors.numpy import load_file

    tensors = load_file(reference / SHAPES_NAME)
    worst, shapes = 0.0, []
    for number in sorted({name.split(".")[0] for name in tensors}, key=int):
        ids, mask = tensors[f"{number}.ids"], tensors[f"{number}.mask"]
        past = int(tensors[f"{number}.past"])
        if len(ids) > 1 and not graph.batched:
            continue
        state = graph.start(len(ids))
        if past:
            state.step(np.ascontiguousarray(ids[:, :past]), np.ascontiguousarray(mask[:, :past]))
        logits = state.step(np.ascontiguousarray(ids[:, past:]), mask)
        real = mask[:, past:].astype(bool)
        wanted = tensors[f"{number}.logits"]
        worst = max(worst, relative_difference(wanted[real], logits[real]))
        shapes.append([len(ids), past, ids.shape[1] - past])
    return shapes, worst
