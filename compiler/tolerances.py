"""How close to the original each precision has to stay, by what a task's outputs are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeward.runtimes.bundle.manifest import Check

from .formats.base import Job
from .tasks import TaskSpec, task_spec


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


_TOKENS = Bound("token_ids_equal", 1.0)
_EXACT = Tolerances(
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
_INT8_TENSORS = Tolerances(
    golden=(Bound("cosine_mean", 0.97), Bound("cosine_min", 0.90)),
    compile_only=(Bound("eval_cosine_mean", 0.98),),
)
_INT8_VECTORS = Tolerances(
    golden=_INT8_TENSORS.golden,
    compile_only=(
        Bound("eval_cosine_mean", 0.98),
        Bound("eval_cosine_min", 0.94),
        Bound("eval_rank_agreement", 0.97),
    ),
)
_INT8_CLASSES = Tolerances(
    golden=_INT8_TENSORS.golden,
    compile_only=(*_INT8_TENSORS.compile_only, Bound("eval_top1_agreement", 0.9)),
)


def _weights(mean: float, least: float, *, top1: float | None = None) -> Tolerances:
    """What rounding weights may cost: mean and least cosine, share of classes kept."""
    picked = () if top1 is None else (Bound("eval_top1_agreement", top1),)
    return Tolerances(
        golden=(Bound("cosine_mean", mean), Bound("cosine_min", least)),
        compile_only=(Bound("eval_cosine_mean", mean), Bound("eval_cosine_min", least), *picked),
    )


def _distributions(
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


def _transcripts(told: Tolerances, words: float, letters: float) -> Tolerances:
    """What may be other words and letters of real speech than the original's, as shares."""
    heard = Bound("features_difference", 1e-2, "at-most")
    spoken = Bound("eval_wer", words, "at-most")
    spelt = Bound("eval_cer", letters, "at-most")
    return Tolerances((*told.golden, heard), (*told.compile_only, spoken, spelt))


_EXACT_DISTRIBUTIONS = _distributions(1e-6, 0.999, 1.0005, greedy=0.99)
_EXACT_GENERATION = Tolerances(
    _EXACT_DISTRIBUTIONS.golden,
    (
        *_EXACT_DISTRIBUTIONS.compile_only,
        Bound("untraced_relative_difference", 1e-3, "at-most"),
    ),
)
_ROUNDED_DISTRIBUTIONS = {
    "fp16": _distributions(1e-3, 0.98, 1.005),
    "bf16": _distributions(5e-3, 0.96, 1.01),
    "int8-dynamic": _distributions(0.1, 0.85, 1.15),
    "int8-mixed": _distributions(0.1, 0.85, 1.15),
    "int8-static": _distributions(0.1, 0.85, 1.15),
    "int8-weights": _distributions(0.02, 0.93, 1.03),
    "int4-mixed": _distributions(0.2, 0.75, 1.25),
    "int4-weights": _distributions(0.3, 0.7, 1.4),
}
# Words and letters. The packaged speech has 13 words, so that two are 0.154: int8 activations
# moved one hyphen of a spoken number.
_SPOKEN = {
    "fp16": (0.02, 0.01),
    "bf16": (0.03, 0.015),
    "int8-dynamic": (0.2, 0.05),
    "int8-mixed": (0.2, 0.05),
    "int8-static": (0.1, 0.05),
    "int8-weights": (0.05, 0.025),
    "int4-mixed": (0.15, 0.075),
    "int4-weights": (0.25, 0.125),
}
TOLERANCES: dict[tuple[str, str], Tolerances] = {
    ("fp32", "vectors"): _EXACT,
    ("fp32", "classes"): _EXACT,
    ("fp32", "tensors"): _EXACT,
    ("fp32", "distributions"): _EXACT_GENERATION,
    ("fp32", "transcripts"): _transcripts(_EXACT_GENERATION, 0.0, 0.0),
    ("fp16", "vectors"): _weights(0.9999, 0.999),
    ("fp16", "classes"): _weights(0.9999, 0.999, top1=0.98),
    ("fp16", "tensors"): _weights(0.9999, 0.999),
    ("bf16", "vectors"): _weights(0.9995, 0.997),
    ("bf16", "classes"): _weights(0.9995, 0.997, top1=0.97),
    ("bf16", "tensors"): _weights(0.9995, 0.997),
    ("int8-dynamic", "vectors"): _INT8_VECTORS,
    ("int8-dynamic", "classes"): _INT8_CLASSES,
    ("int8-dynamic", "tensors"): _INT8_TENSORS,
    ("int8-mixed", "vectors"): _INT8_VECTORS,
    ("int8-mixed", "classes"): _INT8_CLASSES,
    ("int8-mixed", "tensors"): _INT8_TENSORS,
    ("int8-static", "vectors"): _INT8_VECTORS,
    ("int8-static", "classes"): _INT8_CLASSES,
    ("int8-static", "tensors"): _INT8_TENSORS,
    ("int8-weights", "vectors"): _weights(0.995, 0.98),
    ("int8-weights", "classes"): _weights(0.995, 0.98, top1=0.95),
    ("int8-weights", "tensors"): _weights(0.995, 0.98),
    ("int4-mixed", "vectors"): _weights(0.97, 0.92),
    ("int4-mixed", "classes"): _weights(0.97, 0.92, top1=0.87),
    ("int4-mixed", "tensors"): _weights(0.97, 0.92),
    ("int4-weights", "vectors"): _weights(0.94, 0.85),
    ("int4-weights", "classes"): _weights(0.94, 0.85, top1=0.8),
    ("int4-weights", "tensors"): _weights(0.94, 0.85),
}

# A few of 255 levels of a pixel over the deviation of a picture: versions of Pillow round apart.
_PIXELS = Bound("pixels_difference", 0.05, "at-most", optional=True)
_FILES_COSINE = 0.999
_WAVES = Bound("features_difference", 1e-2, "at-most", optional=True)
_FED = {"image": (_PIXELS,), "image-text": (_PIXELS,), "audio": (_WAVES,)}
# Of what a user sees: boxes matched and their overlap, classes' overlap, error of depth, other
# letters and words.
_SEEN = {
    "fp32": (0.999, 0.999, 0.99, 1e-3, 0.002, 0.0),
    "fp16": (0.97, 0.98, 0.97, 1e-2, 0.01, 0.02),
    "bf16": (0.96, 0.97, 0.95, 2e-2, 0.015, 0.03),
    "int8-dynamic": (0.85, 0.85, 0.8, 0.1, 0.05, 0.1),
    "int8-mixed": (0.85, 0.85, 0.8, 0.1, 0.05, 0.1),
    "int8-static": (0.85, 0.85, 0.8, 0.1, 0.05, 0.1),
    "int8-weights": (0.93, 0.93, 0.92, 0.03, 0.03, 0.05),
    "int4-mixed": (0.8, 0.8, 0.7, 0.15, 0.1, 0.15),
    "int4-weights": (0.7, 0.75, 0.6, 0.2, 0.15, 0.25),
}


def _seen(precision: str, view: str, place: str = "eval_") -> tuple[Bound, ...]:
    matched, overlap, classes, depth, letters, words = _SEEN[precision]
    held = {
        "boxes": (Bound(f"{place}boxes_matched", matched), Bound(f"{place}boxes_iou", overlap)),
        "classes": (Bound(f"{place}classes_iou", classes),),
        "depth": (Bound(f"{place}depth_error", depth, "at-most"),),
        "letters": (
            Bound(f"{place}cer", letters, "at-most", optional=True),
            Bound(f"{place}wer", words, "at-most", optional=True),
        ),
    }
    return held.get(view, ())


def with_view(told: Tolerances, precision: str, spec: TaskSpec) -> Tolerances:
    """Add how files are read, and what a user sees.

    Of a rounded model the latter is held to on the evaluation set alone: noise and plain pictures
    are among the golden cases, and what it sees there is chance. The golden bounds leave room for
    a device that rounds pixels otherwise.
    """
    if spec.modality not in _FED:
        return told
    golden = _seen("fp16", spec.view, "") if precision == "fp32" else ()
    least = min((b.bound for b in told.golden if b.metric == "cosine_min"), default=0.0)
    read = Bound("files_cosine_min", min(least, _FILES_COSINE), optional=True)
    return Tolerances(
        (*told.golden, *_FED[spec.modality], read, *golden),
        (*told.compile_only, *_seen(precision, spec.view)),
    )


TOLERANCES |= {
    (precision, "distributions"): told for precision, told in _ROUNDED_DISTRIBUTIONS.items()
}
TOLERANCES |= {
    (precision, "transcripts"): _transcripts(told, *_SPOKEN[precision])
    for precision, told in _ROUNDED_DISTRIBUTIONS.items()
}


def tolerances_for(precision: str, spec: TaskSpec) -> Tolerances:
    """Return what an artifact of this precision is held to for this task."""
    found = with_view(TOLERANCES[precision, spec.kind], precision, spec)
    if spec.modality not in ("text", "text-pair"):
        return found
    return Tolerances((*found.golden, _TOKENS), found.compile_only)


def tolerances_of(job: Job) -> Tolerances:
    """Return what a job's artifact is held to."""
    return tolerances_for(job.recipe.precision, task_spec(job.source.task))
