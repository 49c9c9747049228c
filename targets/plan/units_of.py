"""Which compute unit of a target an engine runs on."""

from __future__ import annotations

from edgeward.targets.profile import Engine, Profile

_BY_PROVIDER = {
    "CPU": "cpu",
    "CUDA": "gpu",
    "Metal": "gpu",
    "Vulkan": "gpu",
    "CPUExecutionProvider": "cpu",
    "CUDAExecutionProvider": "gpu",
    "TensorrtExecutionProvider": "gpu",
    "DmlExecutionProvider": "gpu",
    "ROCMExecutionProvider": "gpu",
    "WebGpuExecutionProvider": "gpu",
    "QNNExecutionProvider": "npu",
    "VitisAIExecutionProvider": "npu",
    "CoreMLExecutionProvider": "npu",
}
_CPU_ONLY = frozenset({"transformers"})


def unit_of(profile: Profile, engine: Engine, precision: str) -> str:
    """Return `cpu`, `gpu` or `npu`: what the first provider stands for, else the fastest there."""
    kinds = {unit.kind for unit in profile.hardware.units}
    providers = engine.providers_for(precision)
    if providers:
        kind = _BY_PROVIDER.get(providers[0], "cpu")
        return kind if kind in kinds else "cpu"
    if engine.name in _CPU_ONLY:
        return "cpu"
    order = ("npu", "gpu", "cpu") if _prefers_npu(profile, engine) else ("gpu", "npu", "cpu")
    return next((kind for kind in order if kind in kinds), "cpu")


def _prefers_npu(profile: Profile, engine: Engine) -> bool:
    """Core ML takes the Neural Engine where it may, which computes in half precision.

    Source: Apple, Deploying Transformers on the Apple Neural Engine (June 2022).
    """
    if engine.name == "coreml":
        return profile.hardware.rate("fp16", ("npu",)) is not None
    return engine.name == "neuron"
