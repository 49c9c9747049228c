"""Text generators as TFLite: signatures over one cache, converted inside the `litert` toolchain."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from edgeward.compiler.mobile.decoder import CachedFront, open_decoder_front
from edgeward.compiler.mobile.decoder_proof import prove_decoder
from edgeward.compiler.reference_model import load_another, load_tokenizer
from edgeward.compiler.stage_context import StageContext
from edgeward.compiler.tasks import task_spec
from edgeward.runtimes.engines.litert_file import read_tflite

from .onnx_assets import copy_assets
from .tflite_signatures import write_slots
from .tflite_worker import FILE


def convert(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write `model.tflite` with a signature for each of `signatures`, tokens by name.

    What is traced is held against the original first, in every way that a runtime calls it.
    """
    folder, spec = context.inputs["source"], task_spec(params["task"])
    named: Mapping[str, int] = params["signatures"]
    length = int(params["context"])
    context.progress(0.05, "loading the model")
    model = load_another(folder, spec.auto_class)
    fronts = {
        name: open_decoder_front(
            spec.name, folder, model, tokens=tokens, context=length, stateful=False
        )
        for name, tokens in named.items()
    }
    context.progress(0.1, "holding it against the original")
    first, *others = fronts.values()
    proof = prove_decoder(first, folder, *others)
    context.progress(0.3, "converting")
    path = context.out / FILE
    with joined_heads(model):
        write_slots(fronts, path)
    copy_assets(folder, context.out / "assets", params["files"], load_tokenizer(folder))
    told = read_tflite(path)
    return {
        **_signature(first),
        "padding": {},
        "front_relative_difference": proof.relative_difference,
        "front_top1_agreement": proof.top1_agreement,
        "summary": f"{type(model).__name__}, {', '.join(named)}, {length} slots: "
        f"{sum(len(graph.operators) for graph in told.graphs)} operators, "
        f"{path.stat().st_size / 2**20:.1f} MiB",
    }


@contextmanager
def joined_heads(model: Any) -> Iterator[None]:
    """Have keys that several heads share joined of copies while the model is traced.

    transformers expands them: TFLite's BROADCAST_TO goes number by number, and XNNPACK leaves it.
    """
    module = sys.modules[type(model).__module__]
    own = getattr(module, "repeat_kv", None)
    if own is None:
        yield
        return
    try:
        vars(module)["repeat_kv"] = _joined
        yield
    finally:
        vars(module)["repeat_kv"] = own


def _joined(states: Any, times: int) -> Any:
    """Return states (rows, heads, tokens, width) with each head `times` times in turn."""
    import torch

    rows, heads, tokens, width = states.shape
    if times == 1:
        return states
    copies = torch.cat([states.reshape(rows * heads, 1, tokens, width)] * times, dim=1)
    return copies.reshape(rows, heads * times, tokens, width)


def _signature(front: CachedFront) -> dict[str, Any]:
    """Return what a session takes and gives; the cache is the runtime's."""
    vocabulary = int(front.module.model.config.get_text_config().vocab_size)
    return {
        "inputs": [{"name": "input_ids", "dtype": "int32", "shape": [1, "sequence"]}],
        "outputs": [{"name": "logits", "dtype": "float32", "shape": [1, "sequence", vocabulary]}],
    }
