"""Makes a compressed checkpoint with llm-compressor; runs inside the `compressed` toolchain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeward.compiler.reference_model import load_tokenizer
from edgeward.compiler.stage_context import StageContext
from edgeward.errors import UnsupportedError

from .compressed_calibration import token_samples
from .compressed_checkpoint import report, write_checkpoint
from .compressed_layers import MAX_SHARD, group_of, load_stored
from .compressed_pipeline import Blocks, calibrate
from .compressed_schemes import SCHEMES, Scheme

_SMOOTHING = 0.8


def compress(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write `assets/`, a checkpoint as vLLM, SGLang and transformers load it.

    Raises UnsupportedError where a layer cannot be divided into groups, or where the method knows
    nothing of the architecture.
    """
    folder = context.inputs["source"]
    scheme = SCHEMES[params["precision"]]
    context.progress(None, "loading")
    model, kept = load_stored(folder)
    group = group_of(model, kept, scheme, params.get("group_size"))
    recipe = recipe_of(model, kept, scheme, group)
    samples = token_samples(folder, load_tokenizer(folder), params["texts"], params["tokens"])

    def say(number: int, count: int, what: str) -> None:
        context.progress(number / count, f"block {number} of {count - 1}: {what}")

    with_texts = samples if scheme.calibrated else ()
    calibrate(model, recipe, with_texts, Blocks(context.resume), say)
    context.progress(0.95, "writing")
    saved = context.scratch / "saved"
    _save(model, saved)
    write_checkpoint(folder, saved, context.out / "assets", params["files"])
    return report(context.out / "assets", params, group, with_texts)


def recipe_of(model: Any, kept: Sequence[str], scheme: Scheme, group: int | None) -> list[Any]:
    """Return llm-compressor's modifiers in the order of its own examples."""
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier

    how = {"config_groups": {"group_0": _numbers(scheme, group)}, "ignore": list(kept)}
    before = _before(model, scheme)
    if scheme.method == "gptq":
        return [*before, GPTQModifier(**how)]
    return [*before, QuantizationModifier(**how)]


def _before(model: Any, scheme: Scheme) -> list[Any]:
    from llmcompressor.modifiers.transform.awq import AWQModifier
    from llmcompressor.modifiers.transform.awq.mappings import AWQ_MAPPING_REGISTRY
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier
    from llmcompressor.modifiers.transform.smoothquant.utils import MAPPINGS_REGISTRY

    architecture = type(model).__name__
    if scheme.method == "awq":
        # Bloom is balanced through an activation that has no weight: llm-compressor fails on it.
        if architecture not in AWQ_MAPPING_REGISTRY or architecture == "BloomForCausalLM":
            raise UnsupportedError(
                f"AWQ knows no layers to balance in {architecture}",
                why=f"llm-compressor knows those of: {', '.join(sorted(AWQ_MAPPING_REGISTRY))}",
                next="edgeward compile … --precision w4a16-gptq",
            )
        return [AWQModifier()]
    smooths = scheme.smooths and architecture in MAPPINGS_REGISTRY
    return [SmoothQuantModifier(smoothing_strength=_SMOOTHING)] if smooths else []


def _numbers(scheme: Scheme, group: int | None) -> Any:
    """The preset's numbers, in groups of the size that divides."""
    from compressed_tensors.quantization import preset_name_to_scheme

    numbers = preset_name_to_scheme(scheme.preset, ["Linear"])
    if group is not None and numbers.weights is not None:
        numbers.weights.group_size = group
    return numbers


def _save(model: Any, folder: Path) -> None:
    from llmcompressor.transformers.compression.compressed_tensors_utils import (
        modify_save_pretrained,
    )

    modify_save_pretrained(model)
    model.save_pretrained(folder, max_shard_size=MAX_SHARD)
