"""Recipes: what each precision does, and how close to the original it has to stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeward.errors import UsageError
from edgeward.runtimes.bundle.manifest import Check


@dataclass(frozen=True, slots=True)
class Bound:
    """What one metric has to reach."""

    metric: str
    bound: float
    direction: str = "at-least"

    def check(self, value: float) -> Check:
        """Return the manifest's entry for a measured value."""
        return Check.model_validate(
            {
                "metric": self.metric,
                "value": value,
                "bound": self.bound,
                "direction": self.direction,
            }
        )


@dataclass(frozen=True, slots=True)
class Recipe:
    """A format and a precision, with the tolerances that belong to them.

    `golden` are bounds that any machine can hold the bundle against again; `compile_only` need
    the evaluation set or shapes that only a compile runs.
    """

    format: str
    precision: str
    granularity: str
    golden: tuple[Bound, ...]
    compile_only: tuple[Bound, ...] = ()
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)


_TOKENS = Bound("token_ids_equal", 1.0)

RECIPES: dict[tuple[str, str], Recipe] = {
    ("onnx", "fp32"): Recipe(
        format="onnx",
        precision="fp32",
        granularity="",
        golden=(
            Bound("cosine_mean", 0.99999),
            Bound("cosine_min", 0.9999),
            Bound("relative_difference", 1e-2, "at-most"),
            _TOKENS,
        ),
        compile_only=(
            Bound("eval_cosine_min", 0.9999),
            Bound("untraced_relative_difference", 1e-3, "at-most"),
        ),
    ),
    ("onnx", "int8-dynamic"): Recipe(
        format="onnx",
        precision="int8-dynamic",
        granularity="per-channel",
        golden=(Bound("cosine_mean", 0.97), Bound("cosine_min", 0.90), _TOKENS),
        compile_only=(
            Bound("eval_cosine_mean", 0.98),
            Bound("eval_cosine_min", 0.94),
            Bound("eval_rank_agreement", 0.97),
        ),
    ),
}


def recipe_for(format_name: str, precision: str) -> Recipe:
    """Return the recipe; UsageError names the precisions where there is none."""
    recipe = RECIPES.get((format_name, precision))
    if recipe is None:
        known = ", ".join(p for f, p in RECIPES if f == format_name)
        raise UsageError(
            f"{format_name} has no precision {precision!r}", why=f"known: {known or 'no format'}"
        )
    return recipe
