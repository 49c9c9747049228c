"""An encoder and a decoder as two TFLite files, converted inside the `litert` toolchain.

`encoder.tflite` reads and gives what the decoder's layers look back at; `model.tflite` writes
behind a cache of slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeward.compiler.mobile.speech import open_writer_fronts
from edgeward.compiler.mobile.speech_proof import prove_writer
from edgeward.compiler.reference_model import load_another, load_tokenizer
from edgeward.compiler.stage_context import StageContext
from edgeward.compiler.tasks import task_spec
from edgeward.runtimes.engines.litert_file import read_tflite

from .onnx_assets import copy_assets
from .tflite_signatures import write_slots
from .tflite_worker import FILE, write_signatures

ENCODER = "encoder.tflite"


def convert(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write both files; what is traced is held against the original first."""
    folder, spec = context.inputs["source"], task_spec(params["task"])
    named: Mapping[str, int] = params["signatures"]
    context.progress(0.05, "loading the model")
    model = load_another(folder, spec.auto_class)
    fronts = open_writer_fronts(
        spec.name,
        folder,
        model,
        {},
        tokens=list(named.values()),
        context=int(params["context"]),
        stateful=False,
    )
    context.progress(0.1, "holding it against the original")
    proof = prove_writer(spec.name, fronts, folder)
    context.progress(0.3, "converting the encoder")
    encoder = fronts.encoder
    write_signatures({"serving_default": encoder}, list(encoder.inputs), context.out / ENCODER)
    context.progress(0.6, "converting the decoder")
    decoders = {name: fronts.decoders[tokens] for name, tokens in named.items()}
    write_slots(decoders, context.out / FILE)
    copy_assets(folder, context.out / "assets", params["files"], load_tokenizer(folder))
    operators = sum(
        len(graph.operators)
        for name in (ENCODER, FILE)
        for graph in read_tflite(context.out / name).graphs
    )
    vocabulary = int(model.config.get_text_config().vocab_size)
    return {
        "inputs": [{"name": "input_ids", "dtype": "int32", "shape": [1, "sequence"]}],
        "outputs": [{"name": "logits", "dtype": "float32", "shape": [1, "sequence", vocabulary]}],
        "padding": {},
        "front_relative_difference": proof.relative_difference,
        "summary": f"{type(model).__name__}, {', '.join(named)}: {operators} operators",
    }
