"""A model as llama.cpp's own converter writes it; run with the `gguf` toolchain's Python.

usage: bare_gguf.py MODEL FILE f16|f32|vocabulary
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from documents import ROOT

from edgeward.compiler.child import clean_environment
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains.manager import Toolchains


def bare_gguf(model: Path, file: Path, kind: str = "f16") -> Path:
    """Convert a model's folder, or its vocabulary alone; returns the file."""
    python = Toolchains().ensure("gguf", NullReporter()).python
    paths = f"{ROOT / 'src'}:{ROOT / 'tests' / 'support'}"
    subprocess.run(
        [python, __file__, model, file, kind],
        check=True,
        capture_output=True,
        env=clean_environment({"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}),
    )
    return file


def convert(model: Path, file: Path, kind: str) -> None:
    """Convert, in the toolchain."""
    import gguf
    import torch
    from conversion import ModelBase, ModelType, get_model_architecture, get_model_class

    types = gguf.LlamaFileType
    settings = ModelBase.load_hparams(model, False)
    architecture = get_model_architecture(settings, ModelType.TEXT)
    with torch.inference_mode():
        numbers = types.ALL_F32 if kind == "f32" else types.MOSTLY_F16
        made = get_model_class(architecture)(model, numbers, file)
        if kind == "vocabulary":
            made.write_vocab()
        else:
            made.write()


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
