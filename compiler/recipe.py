"""Recipes: what each precision does."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from edgeward.errors import UsageError

EXACT = "fp32"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A format and a precision; `granularity` is what one scale of its integers is shared by.

    A search tries one that has `unless` only where that precision did not pass before it.
    """

    format: str
    precision: str
    granularity: str = ""
    unless: str = ""
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)


RECIPES: dict[tuple[str, str], Recipe] = {
    (recipe.format, recipe.precision): recipe
    for recipe in (
        Recipe("onnx", "fp32"),
        Recipe("onnx", "fp16"),
        Recipe("onnx", "bf16"),
        Recipe("onnx", "int8-dynamic", "per-channel"),
        Recipe("onnx", "int8-mixed", "per-channel", unless="int8-dynamic"),
        Recipe("onnx", "int8-static", "per-channel"),
        Recipe("onnx", "int8-weights", "block-32"),
        Recipe("onnx", "int4-weights", "block-32"),
        Recipe("onnx", "int4-mixed", "block-32", unless="int4-weights"),
        Recipe("gguf", "fp32"),
        Recipe("gguf", "fp16"),
        Recipe("gguf", "bf16"),
        Recipe("gguf", "q8_0", "block-32"),
        Recipe("gguf", "q6_k", "block-256"),
        Recipe("gguf", "q5_k_m", "block-256"),
        Recipe("gguf", "q5_k_s", "block-256"),
        Recipe("gguf", "q4_k_m", "block-256"),
        Recipe("gguf", "q4_k_s", "block-256"),
        Recipe("gguf", "q4_0", "block-32"),
        Recipe("gguf", "iq4_xs", "block-256"),
        Recipe("gguf", "mixed", "tensor"),
        Recipe("gguf", "iq3_m", "block-256"),
        Recipe("gguf", "iq3_s", "block-256"),
        Recipe("gguf", "iq3_xs", "block-256"),
        Recipe("gguf", "iq3_xxs", "block-256"),
        Recipe("gguf", "iq2_m", "block-256"),
        Recipe("gguf", "iq2_s", "block-256"),
        Recipe("gguf", "iq2_xs", "block-256"),
        Recipe("gguf", "iq2_xxs", "block-256"),
        Recipe("compressed", "fp8-dynamic", "per-channel"),
        Recipe("compressed", "fp8-static", "per-tensor"),
        Recipe("compressed", "w8a8", "per-channel"),
        Recipe("compressed", "w4a16-gptq", "group"),
        Recipe("compressed", "w4a16-awq", "group"),
        Recipe("compressed", "w4a16-rtn", "group"),
        Recipe("compressed", "nvfp4", "group-16"),
        Recipe("compressed", "nvfp4a16", "group-16"),
        Recipe("compressed", "mxfp4", "group-32"),
        Recipe("tflite", "fp32"),
        Recipe("tflite", "fp16"),
        Recipe("tflite", "int8-dynamic", "per-channel"),
        Recipe("tflite", "int8-weights", "per-channel"),
        Recipe("tflite", "int4-weights", "block-32"),
        Recipe("tflite", "int8-static", "per-channel"),
        Recipe("coreml", "fp32"),
        Recipe("coreml", "fp16"),
        Recipe("coreml", "int8-weights", "per-channel"),
        Recipe("coreml", "w8a8", "per-channel"),
        Recipe("coreml", "palette6", "tensor"),
        Recipe("coreml", "palette4", "group-16"),
        Recipe("coreml", "int4-weights", "block-32"),
        Recipe("coreml", "int4-channels", "per-channel"),
        Recipe("coreml", "mixed", "tensor"),
    )
}


def recipe_for(format_name: str, precision: str, among: Collection[str] = ()) -> Recipe:
    """Return the recipe; where there is none, UsageError names those that there are.

    It names the formats `among` those of a target that have the precision, too.
    """
    recipe = RECIPES.get((format_name, precision))
    if recipe is None:
        known = ", ".join(p for f, p in RECIPES if f == format_name)
        others = [f for f, p in RECIPES if p == precision and f in among]
        raise UsageError(
            f"{format_name} has no precision {precision!r}",
            why=f"known: {known or 'no format'}",
            next=" or ".join(f"--format {name}" for name in others),
        )
    return recipe
