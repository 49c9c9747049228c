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
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from edgeward.runtimes.session import Session, load
from edgeward.runtimes.statistics.memory import peak_bytes
from edgeward.runtimes.tasks.generation import Generator
from edgeward.runtimes.tasks.speech import Transcriber
from edgeward.runtimes.tasks.text_to_text import TextToText
from edgeward.targets.plan.picture_size import SETTINGS, side_of

STEPS, PROMPTS = 24, 3
IDS = [100 + (number * 37) % 7000 for number in range(1 << 17)]
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
        return written(generator.graph.start, IDS[:prompt], context)
    if task == "automatic-speech-recognition":
        heard = cast(Transcriber, session.sequences)
        sound = heard.inputs(noise(30 * heard.mel.settings.rate))
        return one_by_one(lambda: heard.graph.read(sound), heard.rules(sound).prefix, context)
    if task == "text2text-generation":
        writer = cast(TextToText, session.sequences)
        ids = np.array([IDS[:context]])
        text = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        return one_by_one(lambda: writer.graph.read(text), IDS[:1], context)
    inputs = fed(session, context)
    return {"ttft_s": min(timed(lambda: session.run(inputs)) for _ in range(2 * PROMPTS))}


def written(start: Callable[[], Any], first_ids: Any, context: int) -> dict[str, float]:
    """Return the times of what writes: `start` begins a text and may read before it."""
    first = min(timed(lambda: start().next_logits(first_ids)) for _ in range(PROMPTS))
    state = start()
    state.next_logits(IDS[: context - STEPS])
    steps = [timed(lambda: state.next_logits(IDS[:1]).argmax()) for _ in range(STEPS)]
    return {"ttft_s": first, "tpot_s": statistics.median(steps)}


def one_by_one(start: Callable[[], Any], first_ids: Any, context: int) -> dict[str, float]:
    """Return the times of what writes behind a text or a sound: CONTEXT tokens, all written."""
    first = min(timed(lambda: start().next_logits(first_ids)) for _ in range(PROMPTS))
    state = start()
    state.next_logits(first_ids)
    steps = [timed(lambda: state.next_logits(IDS[:1]).argmax()) for _ in range(context)]
    return {"ttft_s": first, "tpot_s": statistics.median(steps[-STEPS:])}


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
        values[spec.name] = filled(spec.name, TYPES.get(spec.dtype, spec.dtype), shape)
    return values


def settings(session: Session) -> Mapping[str, Any]:
    """Return how the bundle's pictures are made, empty where it sees none."""
    path = session.bundle.path / SETTINGS
    found: Mapping[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def filled(name: str, dtype: str, shape: list[int]) -> Any:
    """Return what an input holds."""
    if name == "input_ids":
        return np.array(IDS[: shape[-1]], dtype)[np.newaxis]
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
