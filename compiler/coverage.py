"""The table of what is compiled for which task, as docs/coverage.md shows it."""

from __future__ import annotations

from .architectures import MODEL_TYPES, Coverage
from .formats import coreml, tflite
from .mobile.refused import REFUSED_DECODERS, REFUSED_WRITERS
from .tasks import TASKS

_HEAD = """# Coverage

What `edgeward compile` takes, as ONNX, TFLite and Core ML; GGUF and compressed checkpoints go by
their own converters.

**ONNX.** Each pair is proved by a slow test on a tiny random model
with weights of unit scale: it compiles, loads in ONNX Runtime, agrees with torch at shapes that
were not traced (largest difference under 1e-4 of the outputs' standard deviation); each model type
again in fp16, and in int8 where it has matrix products. `make test` shows each task, and one of
each way to build the bodies of encoders, of models of pictures and sounds, and of generators; the
bodies akin to those, the heads for texts on every encoder, the graph of standard operators of every
generator, and every writer behind an encoder are in `make matrix`.

Text generation is one graph that prefills
and decodes with its cache: proved with padding, in batches, by every token's distribution. An
encoder with a decoder is two: `encoder_model.onnx` reads and gives the keys and values that the
decoder looks back at, once; `decoder_with_past_model.onnx` writes, its first tokens too. Speech is
proved by its words as well.

**TFLite and Core ML.** Both are traced behind one front end (`compiler/mobile/`). Whatever is
compiled is held against its original before it is converted. Slow tests compile a task of each of
26 architectures in both formats, as it is and in int8, and prove it in LiteRT and in the evaluator;
hold the front end of every other model type against its original; and do that for text generators,
whose cache lies in slots. `make test` shows one of each kind of them, some in one format; the
others are in `make matrix`. Whisper is two files in either: one hears, one writes behind such
slots.
"""


def coverage_table() -> str:
    """Return the page: one row a model type, the tasks that it is compiled for in each format."""
    mobile = [tflite.coverage(), coreml.coverage()]
    by_type: dict[str, list[str]] = {}
    for task in TASKS:
        for model_type in MODEL_TYPES[task]:
            by_type.setdefault(model_type, []).append(task)
    rows = [
        f"| {name} | {', '.join(tasks)} | "
        + " | ".join(_taken(name, tasks, coverage) for coverage in mobile)
        + " |"
        for name, tasks in sorted(by_type.items())
    ]
    table = ["| model type | ONNX | TFLite | Core ML |", "|---|---|---|---|", *rows, ""]
    return "\n".join([_HEAD, *table, *_refused(), ""])


def coverage_cases() -> list[tuple[str, str]]:
    """Return the (task, model type) pairs whose proof compares tensors."""
    return [
        (task, model_type)
        for task in TASKS
        if TASKS[task].kind in ("classes", "tensors")
        for model_type in sorted(MODEL_TYPES[task])
    ]


def _taken(model_type: str, tasks: list[str], coverage: Coverage) -> str:
    """Which of the tasks a format takes, in few words."""
    taken = [task for task in tasks if coverage.takes(task, model_type, "")]
    if taken == tasks:
        return "all"
    return ", ".join(taken) or "no"


def _refused() -> list[str]:
    reasons = {**REFUSED_DECODERS, **REFUSED_WRITERS}
    told = [f"{name} has no form for mobile engines: {why}." for name, why in reasons.items()]
    return ["Other writers of texts behind an encoder have a front end, and no file yet.", *told]
