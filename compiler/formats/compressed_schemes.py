"""What each precision of a compressed checkpoint is, as data, and which engines load it.

Presets are compressed-tensors' (`compressed_tensors.quantization.PRESET_SCHEMES`), methods those of
llm-compressor's own examples; ModelOpt's are the configurations of its `hf_ptq` example.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MODELOPT_ENGINE = "tensorrt-llm"
CPU_ENGINE = "transformers"


@dataclass(frozen=True, slots=True)
class Scheme:
    """One precision: the preset of its numbers, and what rounds the weights.

    `method` is `rtn`, `gptq` or `awq`; `smooths` moves the spread of activations into weights
    first. One that is `calibrated` reads texts. `group` is how many columns share a scale, where it
    is not a row: the largest of these that divides every layer. `modelopt` names the configuration
    by which ModelOpt makes the same numbers, where it can.
    """

    preset: str
    method: str = "rtn"
    smooths: bool = False
    calibrated: bool = False
    groups: tuple[int, ...] = ()
    modelopt: str = ""


WEIGHT_GROUPS = (128, 64, 32)
SCHEMES: Mapping[str, Scheme] = {
    "fp8-dynamic": Scheme("FP8_DYNAMIC"),
    "fp8-static": Scheme("FP8", calibrated=True, modelopt="FP8_DEFAULT_CFG"),
    "w8a8": Scheme("W8A8", method="gptq", smooths=True, calibrated=True),
    "w4a16-gptq": Scheme("W4A16", method="gptq", calibrated=True, groups=WEIGHT_GROUPS),
    "w4a16-awq": Scheme(
        "W4A16", method="awq", calibrated=True, groups=WEIGHT_GROUPS, modelopt="INT4_AWQ_CFG"
    ),
    "w4a16-rtn": Scheme("W4A16", groups=WEIGHT_GROUPS),
    "nvfp4": Scheme("NVFP4", calibrated=True, groups=(16,), modelopt="NVFP4_DEFAULT_CFG"),
    "nvfp4a16": Scheme("NVFP4A16", groups=(16,)),
    "mxfp4": Scheme("MXFP4", groups=(32,)),
}

# What each engine reads, from its list of supported quantisations:
# https://docs.vllm.ai/en/latest/features/quantization/
# https://docs.sglang.io/advanced_features/quantization.html
# https://nvidia.github.io/TensorRT-LLM/features/quantization.html
ENGINE_PRECISIONS: Mapping[str, frozenset[str]] = {
    "vllm": frozenset(SCHEMES),
    "sglang": frozenset(SCHEMES) - {"mxfp4"},
    CPU_ENGINE: frozenset(SCHEMES),
    MODELOPT_ENGINE: frozenset(name for name, scheme in SCHEMES.items() if scheme.modelopt),
}
