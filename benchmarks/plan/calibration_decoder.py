"""Write the decoder that `edgeward targets calibrate` times LiteRT's attention with.

usage: python benchmarks/plan/calibration_decoder.py [--out FILE]

A Llama of two narrow layers with the heads of a small model is compiled as users compile one; the
numbers of its file are made zeros, which take no room when packed, and as long as others.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from edgeward.compiler.child import clean_environment
from edgeward.compiler.compile import CompileRequest, compile_model
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains.manager import Toolchains
from edgeward.runtimes.engines.litert_flatbuffer import root
from edgeward.targets.calibration_litert import CACHED, CONTEXT, DECODER, HEADS, LAYERS, SIZE

ROOT = Path(__file__).parents[2]
# A buffer that is larger holds numbers, not shapes.
LEAST = 1024
_BUFFERS, _DATA = 4, 0


def main() -> None:
    """Write the file where the package has it, or elsewhere."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DECODER)
    parser.add_argument("--model", type=Path, help="write the model alone, in the toolchain")
    asked = parser.parse_args()
    if asked.model:
        write_model(asked.model)
        return
    with tempfile.TemporaryDirectory() as scratch:
        file = without_numbers(compiled(Path(scratch)).read_bytes())
        asked.out.write_bytes(gzip.compress(file, mtime=0))


def compiled(folder: Path) -> Path:
    """Return the file of the model's bundle, in float32."""
    python = Toolchains().ensure("onnx", NullReporter()).python
    paths = f"{ROOT / 'src'}:{ROOT / 'tests' / 'support'}"
    subprocess.run(
        [python, __file__, "--model", folder / "model"],
        check=True,
        env=clean_environment({"PYTHONPATH": paths}),
    )
    request = CompileRequest(
        model=str(folder / "model"),
        targets=("raspberry-pi-5",),
        output=folder / "build",
        format="tflite",
        precisions=("fp32",),
        accept_degraded=True,
    )
    (one,) = compile_model(request)
    return one.bundle.entry


def write_model(folder: Path) -> None:
    """Write a random model of the heads that are timed."""
    from make_decoders import write_tokenizer
    from make_heads import write
    from transformers import AutoConfig

    folder.mkdir(parents=True)
    ids = write_tokenizer(folder)
    settings = folder / "tokenizer_config.json"
    told = {**json.loads(settings.read_text()), "model_max_length": CONTEXT}
    settings.write_text(json.dumps(told))
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": CACHED,
        "head_dim": SIZE,
        "max_position_embeddings": CONTEXT,
    }
    write(folder, "AutoModelForCausalLM", AutoConfig.for_model("llama", **sizes, **ids))


def without_numbers(file: bytes) -> bytes:
    """Return a TFLite file with zeros in its large buffers."""
    content = bytearray(file)
    for buffer in root(memoryview(file)).tables(_BUFFERS):
        start, count = buffer.bytes(_DATA)
        if count > LEAST:
            content[start : start + count] = bytes(count)
    return bytes(content)


if __name__ == "__main__":
    sys.exit(main())
