"""What one metric has to reach, and the bounds that tasks share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeward.runtimes.bundle.manifest import Check


@dataclass(frozen=True, slots=True)
class Bound:
    """What one metric has to reach; an `optional` one where it is measured."""

    metric: str
    bound: float
    direction: str = "at-least"
    optional: bool = False

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
class Tolerances:
    """What an artifact is held to.

    `golden` are bounds that any machine can hold the bundle against again; `compile_only` need
    the evaluation set or shapes that only a compile runs.
    """

    golden: tuple[Bound, ...]
    compile_only: tuple[Bound, ...] = ()

    def measured(self, metrics: Mapping[str, float]) -> Tolerances:
        """Return what is held to where these were measured: optional ones may lack."""

        def kept(bounds: tuple[Bound, ...]) -> tuple[Bound, ...]:
            return tuple(b for b in bounds if not b.optional or b.metric in metrics)

        return Tolerances(kept(self.golden), kept(self.compile_only))


def weights(mean: float, least: float, *, top1: float | None = None) -> Tolerances:
    """What rounding weights may cost: mean and least cosine, share of classes kept."""
    picked = () if top1 is None else (Bound("eval_top1_agreement", top1),)
    return Tolerances(
        golden=(Bound("cosine_mean", mean), Bound("cosine_min", least)),
        compile_only=(Bound("eval_cosine_mean", mean), Bound("eval_cosine_min", least), *picked),
    )


def distributions(
    divergence: float, top1: float, ratio: float, greedy: float | None = None
) -> Tolerances:
    """What rounding may cost a generator.

    `divergence` is the mean Kullback-Leibler divergence in nats, `top1` the share of positions
    where the same token is likeliest, `ratio` the perplexity over the original's. Short golden
    prompts swing more than the evaluation passages do.
    """
    follows = () if greedy is None else (Bound("eval_greedy_agreement", greedy),)
    return Tolerances(
        golden=(
            Bound("kl_mean", 3 * divergence, "at-most"),
            Bound("top1_agreement", 1 - 2 * (1 - top1)),
        ),
        compile_only=(
            Bound("eval_kl_mean", divergence, "at-most"),
            Bound("eval_top1_agreement", top1),
            Bound("eval_perplexity_ratio", ratio, "at-most"),
            Bound("eval_padded_kl_mean", 3 * divergence, "at-most", optional=True),
            *follows,
        ),
    )


EXACT_VECTORS = Tolerances(
    golden=(
        Bound("cosine_mean", 0.99999),
        Bound("cosine_min", 0.9999),
        Bound("relative_difference", 1e-2, "at-most"),
    ),
    compile_only=(
        Bound("eval_cosine_min", 0.9999),
        Bound("untraced_relative_difference", 1e-3, "at-most"),
    ),
)
_EXACT_DISTRIBUTIONS = distributions(1e-6, 0.999, 1.0005, greedy=0.99)
EXACT_GENERATION = Tolerances(
    _EXACT_DISTRIBUTIONS.golden,
    (
        *_EXACT_DISTRIBUTIONS.compile_only,
        Bound("untraced_relative_difference", 1e-3, "at-most"),
    ),
)
