"""Tiny models through llama.cpp's own converter and back; the same by compressed-tensors' own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from documents import ROOT
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from edgeward.compiler.architectures import GRAPHS
from edgeward.compiler.child import clean_environment
from edgeward.compiler.compile import CompileRequest, compile_model
from edgeward.compiler.dequantise import dequantised
from edgeward.compiler.dequantise_gguf_patterns import PRE_TOKENIZERS
from edgeward.compiler.dequantise_gguf_texts import HARD_TEXTS, TEXT, with_special
from edgeward.compiler.dequantise_gguf_tokenizer import read_vocabulary, tokenizer_json
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.source import open_source
from edgeward.compiler.source_compressed import open_checkpoint, restorations
from edgeward.compiler.source_gguf_header import read_header
from edgeward.compiler.source_gguf_types import FLOATS, TYPES
from edgeward.compiler.stages import StageInput, StageRunner, StageSpec
from edgeward.compiler.toolchains.manager import Toolchains
from edgeward.errors import ProofError
from edgeward.runtimes.bundle.summary import summary

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("sources")]

MODELS = (
    "llama",
    "llama:pieces",
    "llama:scaled",
    "llama:split",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen3",
    "qwen2_moe",
    "qwen3_moe",
    "gemma",
    "gemma2:pieces",
    "gemma3_text",
    "phi3",
    "gpt2",
    "starcoder2",
    "granite",
    "olmo2",
    "smollm3",
    "bert",
)
# One is added before and taken off after: the last bit is rounded twice.
_SHIFTED = {"gemma", "gemma2-pieces", "gemma3_text"}


def run_in(toolchain: str, script: str, *arguments: str) -> str:
    """Run a script of tests/support by a toolchain's Python; return what it printed."""
    python = Toolchains().ensure(toolchain, NullReporter()).python
    support = ROOT / "tests" / "support"
    told = subprocess.run(
        [str(python), str(support / script), *arguments],
        check=True,
        capture_output=True,
        text=True,
        env=clean_environment({"PYTHONPATH": f"{support}:{ROOT / 'src'}", "OMP_NUM_THREADS": "1"}),
    )
    return told.stdout


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    run_in("gguf", "make_gguf.py", str(folder), *MODELS)
    return folder


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StageRunner]:
    cache = tmp_path_factory.mktemp("cache")
    with StageRunner(Toolchains(), cache, NullReporter(), threads=1) as stages:
        yield stages


@pytest.mark.parametrize("name", [one.replace(":", "-") for one in MODELS])
def test_every_weight_and_every_token_comes_back(
    name: str, models: Path, runner: StageRunner
) -> None:
    plain = dequantised(open_source(str(models / name / "gguf")), [GRAPHS], runner)
    wanted = load_file(models / name / "model.safetensors")
    found = load_file(plain.folder / "model.safetensors")
    # An encoder's pooler is no part of a GGUF file.
    assert set(found) == {key for key in wanted if not key.startswith("pooler.")}
    for key, array in found.items():
        np.testing.assert_allclose(array, wanted[key], atol=1.3e-7 if name in _SHIFTED else 0)
    checks = (plain.dequantised_from or {})["checks"]
    assert isinstance(checks, dict) and float(str(checks["tokens"])) > 500
    if "cosine" in checks:
        assert float(str(checks["cosine"])) > 0.9999
    else:
        assert float(str(checks["kl_mean"])) < 1e-6


def test_weights_that_are_not_put_right_are_noticed(
    models: Path, runner: StageRunner, tmp_path: Path
) -> None:
    """The same file with another base of its positions, held against what the right one gives."""
    whole = (models / "llama" / "gguf" / "model.gguf").read_bytes()
    key = b"llama.rope.freq_base"
    at = whole.index(key) + len(key) + 4
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(whole[:at] + np.float32(17).tobytes() + whole[at + 4 :])
    right = dequantised(open_source(str(models / "llama" / "gguf")), [GRAPHS], runner)
    source = open_source(str(wrong))
    assert source.packed is not None
    torch = runner.run(
        StageSpec(
            name="dequantise-torch",
            call="edgeward.compiler.dequantise_gguf_torch:run",
            version=1,
            inputs={"source": StageInput(right.folder, right.digest)},
            params={"task": right.task},
            toolchain="gguf",
        )
    )
    with pytest.raises(ProofError, match="departs from the GGUF file"):
        runner.run(
            StageSpec(
                name="dequantise-check",
                call="edgeward.compiler.dequantise_gguf_check:check",
                version=1,
                inputs={
                    "gguf": StageInput(wrong, source.packed.sha256),
                    "torch": torch.as_input(),
                },
                params={"task": right.task, "quantised": False},
                toolchain="llama",
            )
        )


def test_every_way_of_cutting_is_llama_cpps(tmp_path: Path) -> None:
    names = [name for name in PRE_TOKENIZERS if name]
    run_in("gguf", "make_cuts.py", str(tmp_path), *names)
    files = [str(tmp_path / f"{name}.gguf") for name in names]
    theirs = json.loads(run_in("llama", "llama_ids.py", *files))
    texts = with_special((*HARD_TEXTS, TEXT), ["<|im_start|>", "<|im_end|>"])
    for name in names:
        header = read_header(tmp_path / f"{name}.gguf")
        made = Tokenizer.from_str(json.dumps(tokenizer_json(header, read_vocabulary(header))))
        assert [made.encode(text).ids for text in texts] == theirs[name], name
    assert len({json.dumps(ids) for ids in theirs.values()}) >= 12


def test_every_type_is_read_as_llama_cpp_reads_it(tmp_path: Path) -> None:
    wanted = [f"{kind.name}={n}" for n, kind in TYPES.items() if kind.name not in FLOATS]
    out = tmp_path / "types.npz"
    run_in("llama", "llama_types.py", str(out), *wanted)
    differences = json.loads(run_in("gguf", "gguf_types.py", str(out), *wanted))
    assert differences == dict.fromkeys(differences, 0.0) and len(differences) == len(wanted)


def test_a_gguf_file_compiles_and_the_bundle_says_what_it_was(
    models: Path, runner: StageRunner, tmp_path: Path
) -> None:
    model = models / "qwen2" / "gguf" / "model.gguf"
    request = CompileRequest(str(model), ("kiosk-x86",), tmp_path, ("fp32",), name="tiny")
    bundle = next(iter(compile_model(request, runner=runner))).bundle
    origin = bundle.manifest.source.dequantised_from
    assert origin is not None and origin.format == "gguf" and origin.types == {"F32": 27}
    lines = {str(row["field"]): str(row["value"]) for row in summary(bundle)}
    assert lines["dequantised from"].startswith("gguf (F32 x 27), ")
    assert "dequantised from gguf (F32 x 27)" in (bundle.path / "README.md").read_text()


def test_compressed_tensors_own_checkpoints_come_back(tmp_path: Path) -> None:
    run_in("compressed", "make_compressed.py", str(tmp_path / "made"))
    folders = sorted((tmp_path / "made").iterdir())
    assert len(folders) == 11
    for folder in folders:
        settings = json.loads((folder / "config.json").read_text())["quantization_config"]
        opened = open_checkpoint(folder, settings, [folder / "model.safetensors"])
        (weight,), _ = restorations(opened)
        wanted = load_file(folder / "expected.safetensors")[weight.name]
        # compressed-tensors itself multiplies NVFP4 out in bfloat16.
        loose = 2**-8 if folder.name == "nvfp4" else 0
        np.testing.assert_allclose(weight.make(), wanted, rtol=loose, err_msg=folder.name)
