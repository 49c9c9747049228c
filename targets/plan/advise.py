"""What to choose among many predictions, and what would make a model fit where it does not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from edgeward.errors import UnsupportedError
from edgeward.targets.profile import Profile, Recipe

from .facts import ModelFacts
from .precision import STORED
from .predict import Prediction, plan_model, recipes_of

# The order in which a format's precisions are tried for a row of the overview, after the target's
# own default: what loses little at a fair size first, then smaller.
PREFERRED = {
    "gguf": ("q4_k_m", "q4_0", "iq4_xs", "q3_k_m", "q2_k"),
    "onnx": ("fp16", "int8-weights", "int4-weights"),
    "compressed": ("fp8-dynamic", "w4a16-awq", "w4a16-gptq"),
    "coreml": ("fp16", "int8-weights", "int4-weights"),
    "tflite": ("fp16", "int8-dynamic", "int4-weights"),
    "neuron": ("bf16", "fp8"),
}
_LEAST_CONTEXT = 256


def every_plan(
    facts: ModelFacts,
    profiles: Sequence[Profile],
    *,
    context: int | None = None,
    batch: int = 1,
    concurrency: int = 1,
    cache: str = "",
    prompt: int | None = None,
    precision: str = "",
) -> list[Prediction]:
    """Return a prediction for each target, recipe and engine, with what would make it fit.

    A GGUF file is planned as it is. `precision` leaves one recipe's rows alone.
    """
    rows: list[Prediction] = []
    for profile in profiles:
        for recipe, engine in recipes_of(profile):
            chosen = recipe
            if facts.counted == "gguf":
                if recipe.format != "gguf" or any(_is_stored(row, profile) for row in rows):
                    continue
                chosen = Recipe("gguf", STORED)
            if precision and chosen.precision not in (precision, STORED):
                continue
            try:
                row = plan_model(
                    facts,
                    profile,
                    chosen,
                    context,
                    batch,
                    concurrency,
                    engine=engine,
                    cache=cache,
                    prompt=prompt,
                )
            except UnsupportedError:
                continue
            rows.append(row)
    by_name = {profile.name: profile for profile in profiles}
    return [_advised(row, facts, by_name[row.target], rows, cache) for row in rows]


def overview(rows: Iterable[Prediction], profiles: Sequence[Profile]) -> list[Prediction]:
    """Return one row for each target and format: the preferred precision that fits, or the last."""
    chosen = []
    by_place: dict[tuple[str, str], list[Prediction]] = {}
    for row in rows:
        by_place.setdefault((row.target, row.format), []).append(row)
    defaults = {profile.name: profile.default for profile in profiles}
    for (target, format_name), group in by_place.items():
        default = defaults[target]
        own = [default.precision] if default.format == format_name else []
        order = [*own, *PREFERRED.get(format_name, ())]
        ranked = sorted(group, key=lambda row: _rank(row, order))
        chosen.append(next((row for row in ranked if row.fits), _smallest(group)))
    return chosen


def _rank(row: Prediction, order: Sequence[str]) -> tuple[int, int]:
    place = order.index(row.precision) if row.precision in order else len(order)
    return place, -row.memory.weights


def _smallest(rows: Sequence[Prediction]) -> Prediction:
    return min(rows, key=lambda row: row.memory.total)


def _is_stored(row: Prediction, profile: Profile) -> bool:
    return row.target == profile.name and row.precision == STORED


def _advised(
    row: Prediction, facts: ModelFacts, profile: Profile, rows: Sequence[Prediction], cache: str
) -> Prediction:
    if row.fits:
        return row
    found = [
        _smaller(row, rows),
        _shorter(row, facts, profile, cache),
        _fewer(row),
        _elsewhere(row, rows),
    ]
    return replace(row, remedies=tuple(each for each in found if each))


def _smaller(row: Prediction, rows: Sequence[Prediction]) -> str:
    """The best precision of the same format that fits the same target."""
    others = [
        each
        for each in rows
        if each.fits and (each.target, each.engine) == (row.target, row.engine)
    ]
    if not others:
        return ""
    best = max(others, key=lambda each: each.memory.weights)
    return f"precision {best.format} {best.precision}"


def _shorter(row: Prediction, facts: ModelFacts, profile: Profile, cache: str) -> str:
    """The longest context, a power of two, with which it fits."""
    if not facts.writes_text or row.memory.total - row.memory.cache >= 2 * row.usable_bytes:
        return ""
    engine = next(each for each in profile.engines if each.name == row.engine)
    context = 1 << max(0, row.context - 1).bit_length() - 1
    while context >= _LEAST_CONTEXT:
        recipe = Recipe(row.format, row.precision)
        shorter = plan_model(
            facts, profile, recipe, context, row.batch, row.sequences, engine=engine, cache=cache
        )
        if shorter.fits:
            return f"context {context}"
        context //= 2
    return ""


def _fewer(row: Prediction) -> str:
    if row.users and row.users < row.sequences:
        return f"concurrency {row.users}"
    return ""


def _elsewhere(row: Prediction, rows: Sequence[Prediction]) -> str:
    """The smallest other target that takes the same recipe."""
    others = [
        each
        for each in rows
        if each.fits and (each.format, each.precision) == (row.format, row.precision)
    ]
    if not others:
        return ""
    return f"target {min(others, key=lambda each: each.usable_bytes).target}"
