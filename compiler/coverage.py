"""The table of what is compiled for which task, as docs/coverage.md shows it."""

from __future__ import annotations

from .architectures import MODEL_TYPES
from .tasks import TASKS

_HEAD = """# Coverage

What `edgeward compile` takes, as ONNX. Each pair is proved by a slow test on a tiny random model
with weights of unit scale: it compiles, loads in ONNX Runtime, agrees with torch at shapes that
were not traced (largest difference under 1e-4 of the outputs' standard deviation), and again in
fp16, and in int8 where it has matrix products. Text generation is one graph that prefills and
decodes with its cache: proved with padding, in batches, by every token's distribution. An encoder
with a decoder is two: `encoder_model.onnx` reads and gives the keys and values that the decoder
looks back at, once; `decoder_with_past_model.onnx` writes, its first tokens too. Speech is proved
by its words as well.
"""


def coverage_table() -> str:
    """Return the page: one row a model type, the tasks that it is compiled for."""
    by_type: dict[str, list[str]] = {}
    for task in TASKS:
        for model_type in MODEL_TYPES[task]:
            by_type.setdefault(model_type, []).append(task)
    rows = [f"| {name} | {', '.join(tasks)} |" for name, tasks in sorted(by_type.items())]
    return "\n".join([_HEAD, "| model type | tasks |", "|---|---|", *rows, ""])


def coverage_cases() -> list[tuple[str, str]]:
    """Return the (task, model type) pairs whose proof compares tensors."""
    return [
        (task, model_type)
        for task in TASKS
        if TASKS[task].kind in ("classes", "tensors")
        for model_type in sorted(MODEL_TYPES[task])
    ]
