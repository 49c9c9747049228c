"""Compressed checkpoints end to end: written, proved, and loaded again by their own libraries."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeward.compiler.compile import Compiled, CompileRequest, plan_bundles
from edgeward.errors import UnsupportedError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
Compile = Callable[..., Compiled]
Script = Callable[[str, Path], object]
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")

PARSED = """
import json, sys
from compressed_tensors.quantization import QuantizationConfig
stated = json.load(open(sys.argv[1] + "/config.json"))["quantization_config"]
stated.pop("quant_method")
found = QuantizationConfig.model_validate({k: v for k, v in stated.items() if k in
    QuantizationConfig.model_fields})
group = found.config_groups["group_0"]
told = lambda part: part and [part.num_bits, str(part.type), part.group_size, str(part.dynamic)]
print(json.dumps([told(group.weights), told(group.input_activations), found.ignore]))
"""
# What one layer reads is rounded before it multiplies: noise far under a step does not show.
ROUNDED_READS = """
import json, sys, torch
from pathlib import Path
from edgeward.compiler.torch_engine import open_model
from edgeward.runtimes.engines.base import EngineOptions
model = open_model(Path(sys.argv[1]) / "model.safetensors", EngineOptions(1)).model
model(torch.tensor([[5]]))
layer = model.model.layers[0].mlp.gate_proj
generator = torch.Generator().manual_seed(0)
read = torch.randn(1, 3, layer.in_features, generator=generator, dtype=layer.weight.dtype)
plain = torch.nn.functional.linear(read, layer.weight, layer.bias)
print(json.dumps(float((layer(read) - plain).norm() / plain.norm())))
"""
PLAIN_TRANSFORMERS = """
import json, sys, torch
from pathlib import Path
from transformers import AutoModelForCausalLM
from edgeward.compiler.torch_engine import open_model
from edgeward.runtimes.engines.base import EngineOptions
ids = list(range(5, 60))
right = torch.tensor(open_model(Path(sys.argv[1]) / "model.safetensors", EngineOptions(1))
    .start().logits(ids))
try:
    wrong = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype="auto")
    wrong = wrong(torch.tensor([ids])).logits[0].float()
    print(json.dumps(float((right - wrong).norm() / right.norm())))
except Exception as error:
    print(json.dumps(9.0))
"""
DAMAGED = """
import json, shutil, sys, tempfile
from pathlib import Path
from safetensors.torch import load_file, save_file
from edgeward.compiler.torch_engine import open_model
from edgeward.errors import EngineError
from edgeward.runtimes.engines.base import EngineOptions
folder = Path(tempfile.mkdtemp()) / "damaged"
shutil.copytree(sys.argv[1], folder)
tensors = load_file(folder / "model.safetensors")
del tensors["model.layers.1.mlp.up_proj.weight_scale"]
save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
try:
    open_model(folder / "model.safetensors", EngineOptions(1))
    print(json.dumps("loaded"))
except EngineError as error:
    print(json.dumps(error.what + " " + str(error.why)))
"""


def config_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


def test_fp8_is_proved_and_says_what_was_not_run(compiled: Compile) -> None:
    bundle = compiled("llama", "fp8-dynamic").bundle
    manifest = bundle.manifest
    assert manifest.entry == "model.safetensors"
    assert manifest.proof.verified == "reference-evaluator"
    assert manifest.proof.engine is not None
    assert manifest.proof.engine.name == "transformers + compressed-tensors"
    assert "vllm on Blackwell, sm_100: its kernels were not run" in manifest.proof.pending_on_target
    assert not manifest.proof.degraded
    figures = manifest.proof.figures
    assert 0 < figures["eval_kl_mean"] < 0.02
    assert figures["token_ids_equal"] == 1
    assert figures["eval_padded_kl_mean"] < 0.02
    assert {"llmcompressor", "compressed-tensors"} <= set(manifest.tools)
    options = manifest.recipe.options
    assert options["rounded_layers"] == 14
    assert options["kept_layers"] == "lm_head,model.embed_tokens"


def test_the_original_files_are_kept(compiled: Compile, tiny: Path) -> None:
    made = compiled("llama", "fp8-dynamic").bundle.path
    for name in TOKENIZER:
        assert (made / name).read_bytes() == (tiny / "llama" / name).read_bytes()
    before, after = config_of(tiny / "llama"), config_of(made)
    stated = after.pop("quantization_config")
    assert stated["quant_method"] == "compressed-tensors"
    assert after.pop("dtype") == "bfloat16"
    before.pop("dtype")
    assert after == before


@pytest.mark.parametrize(
    ("precision", "weights", "reads"),
    [
        ("fp8-dynamic", [8, "float", None, "False"], [8, "float", None, "True"]),
        ("w4a16-gptq", [4, "int", 64, "False"], None),
        ("nvfp4", [4, "float", 16, "False"], [4, "float", 16, "local"]),
    ],
)
def test_compressed_tensors_own_parser_reads_the_configuration(
    compiled: Compile,
    in_toolchain: Script,
    precision: str,
    weights: list[object],
    reads: list[object] | None,
) -> None:
    folder = compiled("llama", precision).bundle.path
    found = in_toolchain(PARSED, folder)
    assert isinstance(found, list)
    short = [_short(part) for part in found[:2]]
    assert short == [weights, reads]
    assert found[2] == ["lm_head"]


def _short(part: list[Any] | None) -> list[Any] | None:
    return part and [str(x).rpartition(".")[2].lower() if n == 1 else x for n, x in enumerate(part)]


def test_int4_is_calibrated_in_groups_that_divide(compiled: Compile) -> None:
    manifest = compiled("llama", "w4a16-gptq").bundle.manifest
    assert manifest.recipe.options["group_size"] == 64
    assert manifest.recipe.calibration_sha256
    assert manifest.size < compiled("llama", "fp8-dynamic").bundle.manifest.size


@pytest.mark.parametrize(("precision", "least", "most"), [("nvfp4", 0.02, 0.3)])
def test_what_layers_read_is_rounded_in_the_proof(
    compiled: Compile, in_toolchain: Script, precision: str, least: float, most: float
) -> None:
    lost = in_toolchain(ROUNDED_READS, compiled("llama", precision).bundle.path)
    assert isinstance(lost, float)
    assert least < lost < most
    kept = in_toolchain(ROUNDED_READS, compiled("llama", "w4a16-gptq").bundle.path)
    assert kept == 0


def test_modelopt_is_read_by_its_own_numbers(compiled: Compile, in_toolchain: Script) -> None:
    made = compiled("llama", "fp8-static", "h100", engine="tensorrt-llm").bundle
    assert (made.path / "hf_quant_config.json").is_file()
    assert config_of(made.path)["quantization_config"]["quant_method"] == "modelopt"
    assert made.manifest.recipe.options["producer"] == "modelopt"
    assert made.manifest.proof.figures["eval_kl_mean"] < 0.02
    assert "nvidia-modelopt" in made.manifest.tools
    wrong = in_toolchain(PLAIN_TRANSFORMERS, made.path)
    assert isinstance(wrong, float)
    assert wrong > 0.5


def test_a_checkpoint_with_a_scale_missing_is_refused(
    compiled: Compile, in_toolchain: Script
) -> None:
    said = in_toolchain(DAMAGED, compiled("llama", "fp8-dynamic").bundle.path)
    assert "weight_scale" in str(said)


def test_norms_with_an_offset_are_balanced_by_awq(compiled: Compile) -> None:
    manifest = compiled("gemma2", "w4a16-awq").bundle.manifest
    assert manifest.recipe.options["group_size"] == 64
    assert not manifest.proof.degraded


def test_refusals_come_before_work(compiled: Compile, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="AWQ knows no layers"):
        compiled("opt", "w4a16-awq")
    for model_type, target, precision in (
        ("mixtral", "h100", "fp8-dynamic"),
        ("llama", "a100", "fp8-dynamic"),
        ("llama", "h100", "nvfp4"),
    ):
        request = CompileRequest(str(tiny / model_type), (target,), tmp_path, (precision,))
        with pytest.raises(UnsupportedError):
            plan_bundles(request)
