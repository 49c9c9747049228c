"""One bundle asked once, for `reality.py`. usage: asked.py BUNDLE CONTEXT PROMPT

Prints one JSON object. Times are of one thread and of the processor, so that what else runs on the
machine does not count. Of what writes text: seconds until the first token of PROMPT tokens, of a
sound until the first word; seconds a token with CONTEXT tokens behind it (the median of the steps).
What writes behind a text or a sound writes CONTEXT tokens, one by one; of a text it reads as many.
Of what reads once: seconds an input, a text of CONTEXT tokens (no more than the bundle's shape has)
or a picture. Memory is the process's peak in bytes.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from edgeward.runtimes.session import Session, load
from edgeward.runtimes.statistics.memory import peak_bytes
from edgeward.runtimes.tasks.generation import Generator
from edgeward.runtimes.tasks.speech import Transcriber
from edgeward.runtimes.tasks.text_to_text import TextToText
from edgeward.targets.plan.picture_size import SETTINGS, side_of

STEPS, PROMPTS = 24, 3
# The first words are special ones; by this step a text has words of all of the table.
FIRST, STEP = 100, 7919
# Of axes that a bundle leaves open: one row, a picture of the side that its settings say or 224.
OPEN = {"batch": 1, "num_channels": 3}
# What ONNX Runtime calls a type otherwise than numpy does.
TYPES = {"float": "float32", "double": "float64"}


def main() -> None:
    """Ask and print."""
    bundle, context, prompt = sys.argv[1], *map(int, sys.argv[2:4])
    session = load(bundle, threads=1)
    told = asked(session, context, prompt)
    print(json.dumps({**told, "peak_bytes": peak_bytes()}))


def asked(session: Session, context: int, prompt: int) -> dict[str, float]:
    """Return the times of the bundle's kind."""
    task = session.bundle.manifest.task
    if task == "text-generation":
        generator: Generator = session.generator
        words = words_of(session, max(context, prompt))
        return written(generator.graph.start, words, context, prompt)
    if task == "automatic-speech-recognition":
        heard = cast(Transcriber, session.sequences)
        sound = heard.inputs(noise(30 * heard.mel.settings.rate))
        prefix = heard.rules(sound).prefix
        words = words_of(session, context - len(prefix))
        return one_by_one(lambda: heard.graph.read(sound), prefix, words)
    if task == "text2text-generation":
        writer = cast(TextToText, session.sequences)
        words = words_of(session, context)
        ids = np.array([words])
        text = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        return one_by_one(lambda: writer.graph.read(text), words[:1], words[1:])
    inputs = fed(session, context)
    return {"ttft_s": min(timed(lambda: session.run(inputs)) for _ in range(2 * PROMPTS))}


def words_of(session: Session, count: int) -> list[int]:
    """Return so many words of all of the vocabulary: a planner's import would count as memory."""
    config = json.loads((session.bundle.path / "config.json").read_text())
    beyond = int({**config.get("text_config", {}), **config}["vocab_size"]) - FIRST
    return [FIRST + number * STEP % beyond for number in range(count)]


def written(
    start: Callable[[], Any], words: Sequence[int], context: int, prompt: int
) -> dict[str, float]:
    """Return the times of what writes behind a prompt."""
    first = min(timed(lambda: start().next_logits(words[:prompt])) for _ in range(PROMPTS))
    state = start()
    state.next_logits(words[: context - STEPS])
    steps = [timed(lambda one=[word]: state.next_logits(one).argmax()) for word in words[:STEPS]]
    return {"ttft_s": first, "tpot_s": statistics.median(steps)}


def one_by_one(start: Callable[[], Any], first_ids: Any, words: Sequence[int]) -> dict[str, float]:
    """Return the times of what writes behind a text or a sound: all words are written.

    Others are read after that: reading takes memory beside what writing has touched.
    """
    steps = steps_of(start(), first_ids, words)
    first = min(timed(lambda: start().next_logits(first_ids)) for _ in range(PROMPTS))
    return {"ttft_s": first, "tpot_s": statistics.median(steps[-STEPS:])}


def steps_of(state: Any, first_ids: Any, words: Sequence[int]) -> list[float]:
    """Return the times of words that are written one by one."""
    state.next_logits(first_ids)
    return [timed(lambda one=[word]: state.next_logits(one).argmax()) for word in words]


def fed(session: Session, context: int) -> Mapping[str, Any]:
    """Return one input of the bundle's shape: tokens that are all seen, or a picture of noise."""
    manifest = session.bundle.manifest
    largest = max(
        (one.sizes for one in manifest.buckets), key=lambda s: tuple(s.values()), default={}
    )
    side = side_of(settings(session)) or 224
    sizes = {**OPEN, "height": side, "width": side, "sequence": context, **largest}
    values: dict[str, Any] = {}
    for spec in manifest.inputs:
        shape = [sizes[axis] if isinstance(axis, str) else axis for axis in spec.shape]
        if spec.name == "input_ids":
            values[spec.name] = np.array([words_of(session, shape[-1])], spec.dtype)
            continue
        values[spec.name] = filled(spec.name, TYPES.get(spec.dtype, spec.dtype), shape)
    return values


def settings(session: Session) -> Mapping[str, Any]:
    """Return how the bundle's pictures are made, empty where it sees none."""
    path = session.bundle.path / SETTINGS
    found: Mapping[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def filled(name: str, dtype: str, shape: list[int]) -> Any:
    """Return what an input holds."""
    if name == "attention_mask":
        return np.ones(shape, dtype)
    if np.dtype(dtype).kind in "iu":
        return np.zeros(shape, dtype)
    return noise(int(np.prod(shape))).reshape(shape).astype(dtype)


def noise(count: int) -> Any:
    """Return so many numbers about zero, float32, the same each time."""
    return np.random.default_rng(3).normal(0, 0.3, count).astype(np.float32)


def timed(call: Callable[[], object]) -> float:
    """Return the seconds of processor time that a call takes in this process."""
    began = time.process_time()
    call()
    return time.process_time() - began


if __name__ == "__main__":
    main()
