"""Write the decoders that `edgeward targets calibrate` times LiteRT with.

usage: python benchmarks/plan/calibration_decoder.py [--out FOLDER] [NAME...]

Llamas are compiled as users compile one: two narrow layers with the heads of a small model, and
layers of products for each precision. The numbers of their files are made zeros, which take no room
when packed, and as long as others.
"""

from __future__ import annotations

import argparse
import json
import lzma
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgeward.compiler.child import clean_environment
from edgeward.compiler.compile import CompileRequest, compile_model
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains.manager import Toolchains
from edgeward.runtimes.engines.litert_flatbuffer import root
from edgeward.targets.calibration_litert import ATTENTION, PRODUCTS, Decoder, file_of

ROOT = Path(__file__).parents[2]
DECODERS: Mapping[str, Decoder] = {**ATTENTION, **PRODUCTS}
# A buffer that is larger holds numbers, not shapes nor the scales of blocks.
LEAST = 1024
SCALE = 2.0**-6
# Fields of TFLite's schema (tensorflow/compiler/mlir/lite/schema/schema.fbs), and its float16.
_GRAPHS, _BUFFERS, _DATA, _TENSORS = 2, 4, 0, 0
_TYPE, _BUFFER, _QUANTISED, _SCALES = 1, 2, 4, 2
_HALF = 1


def main() -> None:
    """Write the files where the package has them, or elsewhere."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(DECODERS))
    parser.add_argument("--out", type=Path, default=file_of("").parent)
    parser.add_argument("--model", type=Path, help="write one's model alone, in the toolchain")
    asked = parser.parse_args()
    if asked.model:
        write_model(asked.model, DECODERS[asked.names[0]])
        return
    for name in asked.names:
        with tempfile.TemporaryDirectory() as scratch:
            file = without_numbers(compiled(Path(scratch), name).read_bytes())
        (asked.out / file_of(name).name).write_bytes(lzma.compress(file, preset=9))


def compiled(folder: Path, name: str) -> Path:
    """Return the file of a model's bundle."""
    python = Toolchains().ensure("onnx", NullReporter()).python
    paths = f"{ROOT / 'src'}:{ROOT / 'tests' / 'support'}"
    subprocess.run(
        [python, __file__, name, "--model", folder / "model"],
        check=True,
        env=clean_environment({"PYTHONPATH": paths}),
    )
    request = CompileRequest(
        model=str(folder / "model"),
        targets=("raspberry-pi-5",),
        output=folder / "build",
        format="tflite",
        precisions=("fp32" if name in ATTENTION else name,),
        accept_degraded=True,
    )
    (one,) = compile_model(request)
    return one.bundle.entry


def write_model(folder: Path, decoder: Decoder) -> None:
    """Write a random model of a decoder's sizes."""
    from make_decoders import write_tokenizer
    from make_heads import write
    from transformers import AutoConfig

    folder.mkdir(parents=True)
    ids = write_tokenizer(folder)
    settings = folder / "tokenizer_config.json"
    told = {**json.loads(settings.read_text()), "model_max_length": decoder.context}
    settings.write_text(json.dumps(told))
    sizes = {
        "hidden_size": decoder.hidden,
        "intermediate_size": decoder.intermediate,
        "num_hidden_layers": decoder.layers,
        "num_attention_heads": decoder.heads,
        "num_key_value_heads": decoder.cached,
        "head_dim": decoder.size,
        "max_position_embeddings": decoder.context,
    }
    write(folder, "AutoModelForCausalLM", AutoConfig.for_model("llama", **sizes, **ids))


def without_numbers(file: bytes) -> bytes:
    """Return a TFLite file with zeros in its large buffers, and one scale for all rounded weights.

    A scale of zero is none that LiteRT takes.
    """
    content = bytearray(file)
    model = root(memoryview(file))
    buffers = [buffer.bytes(_DATA) for buffer in model.tables(_BUFFERS)]
    for start, count in buffers:
        if count > LEAST:
            content[start : start + count] = bytes(count)
    for graph in model.tables(_GRAPHS):
        for tensor in graph.tables(_TENSORS):
            start, count = buffers[tensor.number(_BUFFER, "I")]
            if tensor.number(_TYPE, "b") == _HALF and count > LEAST:
                content[start : start + count] = np.full(count // 2, SCALE, "<f2").tobytes()
            quantised = tensor.table(_QUANTISED)
            start, count = quantised.bytes(_SCALES) if quantised else (0, 0)
            if count > 1:
                content[start : start + 4 * count] = np.full(count, SCALE, "<f4").tobytes()
    return bytes(content)


if __name__ == "__main__":
    sys.exit(main())
