"""Queries that write token after token: a prompt's answer, what a text or a sound becomes.

Exactly the tokens that are asked for are written, the end of a text among them, so that every
query is the same work; the likeliest token is picked. Text is not made of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import UsageError
from edgeward.runtimes.engines.base import Tensor
from edgeward.runtimes.proof import generation, sequences
from edgeward.runtimes.session import Session
from edgeward.runtimes.tasks.decoder import PREFILL_TOKENS, Decoder, DecodingState
from edgeward.runtimes.tasks.sampling import Sampler, Sampling
from edgeward.runtimes.tasks.sequences import SequenceGraph
from edgeward.runtimes.tasks.sound import parse_wav, resample
from edgeward.runtimes.tasks.speech import Transcriber
from edgeward.runtimes.tasks.streaming import picked_tokens
from edgeward.runtimes.tasks.writing_rules import WritingRules

from .data import read_bytes, read_texts
from .request import Request
from .workload import Ask, Workload, golden_cases, lengthened

Made = Callable[[], Mapping[str, Tensor]]


def answers(session: Session, request: Request) -> Workload:
    """Return a decoder's workload: a prompt is read, tokens are written behind it."""
    generator = session.generator
    ids = lengthened(_prompt(session, request), request.prompt)
    limit = generator.context_limit
    if limit is not None and len(ids) + request.generate > limit:
        raise UsageError(
            f"A prompt of {len(ids)} tokens and {request.generate} written do not fit the model",
            why=f"it takes {limit} together",
        )
    if request.batch == 1:
        ask = _one(generator.graph, ids, request.generate)
    elif generator.graph.batched:
        ask = _several(generator.graph, ids, request.generate, request.batch)
    else:
        raise UsageError(
            f"This bundle continues one text at a time, not {request.batch}",
            why=f"its engine is {session.engine.ref.name}",
        )
    return Workload(ask, "answer", request.batch, len(ids), request.generate)


def writings(session: Session, request: Request) -> Workload:
    """Return the workload of an encoder and decoder: a text or a sound is read, then written."""
    if request.batch > 1 or request.prompt:
        raise UsageError("An encoder and decoder is measured on one input as long as it is")
    task = session.sequences
    case = None if request.data else sequences.typical(golden_cases(session))
    if isinstance(task, Transcriber):
        rate = task.mel.settings.rate
        samples = case.samples if case else _heard(Path(str(request.data)), rate)
        samples = samples[: rate * task.mel.settings.seconds]
        heard = task.inputs(samples)
        rules = task.rules(heard)
        most = max(1, min(request.generate, task.limit - len(rules.prefix)))
        ask = _behind(task.graph, lambda: task.inputs(samples), rules, most)
        return Workload(ask, "transcript", 1, 0, most, len(samples) / rate)
    text = str(case.written.prompt) if case else read_texts(Path(str(request.data)))[0]
    read = task.inputs(text)
    ask = _behind(task.graph, lambda: task.inputs(text), task.rules(read), request.generate)
    return Workload(ask, "text to text", 1, int(read["input_ids"].shape[1]), request.generate)


def _prompt(session: Session, request: Request) -> list[int]:
    """The typical prompt; all of a file's where a length is asked for."""
    if not request.data:
        return list(generation.typical(golden_cases(session)).ids)
    told = [session.generator.encode(text) for text in read_texts(Path(request.data))]
    if request.prompt:
        return [token for ids in told for token in ids]
    return sorted(told, key=len)[len(told) // 2]


def _one(graph: Decoder, ids: Sequence[int], tokens: int) -> Ask:
    def ask(_number: int) -> int:
        picked = picked_tokens(graph.start(), ids, Sampler(Sampling()))
        return _timed_first(picked, tokens)

    return ask


def _behind(graph: SequenceGraph, made: Made, rules: WritingRules, tokens: int) -> Ask:
    def ask(_number: int) -> int:
        target = graph.read(made())
        picked = picked_tokens(target, rules.prefix, rules.picker(Sampler(Sampling())))
        return _timed_first(picked, tokens)

    return ask


def _timed_first(picked: Iterator[int], tokens: int) -> int:
    next(picked)
    first = time.perf_counter_ns()
    for _ in islice(picked, tokens - 1):
        pass
    return first


def _several(graph: Decoder, ids: Sequence[int], tokens: int, rows: int) -> Ask:
    prompt = np.repeat(np.array([ids], np.int64), rows, axis=0)

    def ask(_number: int) -> int:
        state = graph.start(rows)
        for at in range(0, len(ids), PREFILL_TOKENS):
            seen = min(at + PREFILL_TOKENS, len(ids))
            last = _step(state, prompt[:, at:seen], seen)
        first = time.perf_counter_ns()
        for seen in range(len(ids) + 1, len(ids) + tokens):
            last = _step(state, last, seen)
        return first

    return ask


def _step(state: DecodingState, ids: NDArray[np.int64], seen: int) -> NDArray[np.int64]:
    """Add tokens to every row; the likeliest next ones (rows, 1)."""
    logits = state.step(ids, np.ones((len(ids), seen), np.int64), kept=1)
    return np.asarray(logits[:, -1:].argmax(axis=-1), np.int64)


def _heard(path: Path, rate: int) -> NDArray[np.float32]:
    sound = parse_wav(read_bytes(path))
    return resample(sound.values, sound.rate, rate)
