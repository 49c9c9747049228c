"""Queries that write token after token: a prompt's answer, what a text or a sound becomes.

Exactly the tokens that are asked for are written, the end of a text among them; where no number is,
what a text or a sound becomes is written until it ends, as its real-time factor is of that. Either
way every query is the same work: the likeliest token is picked. Text is not made of them.
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
from edgeward.runtimes.tasks.streaming import DEFAULT_MAX_TOKENS, picked_tokens
from edgeward.runtimes.tasks.writing_rules import WritingRules

from .data import read_bytes, read_texts
from .request import DEFAULT_GENERATED, Request
from .workload import Ask, Workload, golden_cases, lengthened, no_call

Made = Callable[[], Mapping[str, Tensor]]


def answers(session: Session, request: Request) -> Workload:
    """Return a decoder's workload: a prompt is read, tokens are written behind it."""
    generator, tokens = session.generator, request.generate or DEFAULT_GENERATED
    ids = lengthened(_prompt(session, request), request.prompt)
    limit = generator.context_limit
    if limit is not None and len(ids) + tokens > limit:
        raise UsageError(
            f"A prompt of {len(ids)} tokens and {tokens} written do not fit the model",
            why=f"it takes {limit} together",
        )
    if request.batch == 1:
        ask = _one(generator.graph, ids, tokens)
    elif generator.graph.batched:
        ask = _several(generator.graph, ids, tokens, request.batch)
    else:
        raise UsageError(
            f"This bundle continues one text at a time, not {request.batch}",
            why=f"its engine is {session.engine.ref.name}",
        )
    return Workload(ask, "answer", request.batch, len(ids), tokens)


def writings(session: Session, request: Request) -> Workload:
    """Return the workload of an encoder and decoder: a text or a sound is read, then written."""
    if request.batch > 1 or request.prompt:
        raise UsageError(
            "An encoder with a decoder is measured on one input, as long as it is",
            why="it has no --prompt, and its --batch is 1",
        )
    task = session.sequences
    case = None if request.data else sequences.typical(golden_cases(session))
    if isinstance(task, Transcriber):
        rate = task.mel.settings.rate
        samples = case.samples if case else _heard(Path(str(request.data)), rate)
        samples = samples[: rate * task.mel.settings.seconds]
        heard = task.inputs(samples)
        rules = task.rules(heard)
        room = max(1, task.limit - len(rules.prefix))
        work = Workload(no_call, "transcript", 1, seconds=len(samples) / rate)
        return _behind(work, task.graph, lambda: task.inputs(samples), rules, request, room)
    text = str(case.written.prompt) if case else read_texts(Path(str(request.data)))[0]
    read = task.inputs(text)
    work = Workload(no_call, "text to text", 1, int(read["input_ids"].shape[1]))
    room = request.generate or DEFAULT_MAX_TOKENS
    return _behind(work, task.graph, lambda: task.inputs(text), task.rules(read), request, room)


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


def _behind(
    work: Workload,
    graph: SequenceGraph,
    made: Made,
    rules: WritingRules,
    request: Request,
    room: int,
) -> Workload:
    """Give a workload what it asks: at most `room` tokens, up to an end where none is told."""
    ends = frozenset() if request.generate else rules.ends
    most = min(request.generate or room, room)

    def ask(_number: int) -> int:
        target = graph.read(made())
        picked = picked_tokens(target, rules.prefix, rules.picker(Sampler(Sampling())))
        token, work.written = next(picked), 1
        first = time.perf_counter_ns()
        while work.written < most and token not in ends:
            token = next(picked)
            work.written += 1
        return first

    work.ask = ask
    return work


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
    sound = parse_wav(read_bytes(path), str(path))
    return resample(sound.values, sound.rate, rate)
