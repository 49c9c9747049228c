"""What the planner said, beside what was measured."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from edgeward.errors import EdgewardError
from edgeward.runtimes.bundle.read import Bundle
from edgeward.targets.load import load, names
from edgeward.targets.match import ranked
from edgeward.targets.plan.facts import ModelFacts
from edgeward.targets.plan.predict import engine_for, plan_model
from edgeward.targets.plan.read import read_facts
from edgeward.targets.plan.units_of import unit_of
from edgeward.targets.probe import probe
from edgeward.targets.profile import Profile, Recipe

CALIBRATED = "this-machine"
_PROCESSOR = "CPU"
_GPUS_MEMORY = "its memory is the GPU's, the process's was measured"
# Predicted figure, and the measured one that it is held against.
FIGURES = {
    "ttft_ms": "ttft_p50_ms",
    "tpot_ms": "tpot_p50_ms",
    "latency_ms": "served_p50_ms",
    "peak_memory_bytes": "peak_memory_bytes",
}


class Predictor:
    """Predicts a bundle's figures on the first of some profiles that runs it where it ran.

    What cannot be predicted is left out.
    """

    def __init__(
        self, bundle: Bundle, profiles: Sequence[Profile], facts: ModelFacts | None
    ) -> None:
        self._bundle, self._profiles, self._facts = bundle, profiles, facts

    def beside(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return the predictions for a record's own workload, each with its error in percent.

        The error is of the prediction over what was measured. Where no plan can be made, the
        predictions that the bundle's manifest holds stand, which are of its own target.
        """
        found, source, words = self._planned(record)
        stated = self._bundle.manifest.performance.predicted
        if not found and stated:
            found = {name: stated[name] for name in FIGURES if name in stated}
            source, words = self._bundle.manifest.target.name, "the manifest's"
        if not found:
            return {"predicted_for": None, "predicted_note": words}
        held = {name: record.get(FIGURES[name]) for name in found}
        if _is_gpus_memory(source):
            held["peak_memory_bytes"] = None
        errors = {name: off(found[name], held[name]) for name in found}
        return {
            "predicted_for": source,
            "predicted_note": words,
            **{f"predicted_{name}": value for name, value in found.items()},
            **{f"{name}_error_percent": error for name, error in errors.items()},
        }

    def _planned(self, record: Mapping[str, Any]) -> tuple[dict[str, float], str, str]:
        profile, facts = self._profile(record), self._facts
        if not self._profiles or facts is None:
            return {}, "", "no profile describes this machine, or no plan reads this model"
        if profile is None:
            return {}, "", f"no profile of this machine runs it on {record['backends']}"
        recipe = self._bundle.manifest.recipe
        length = int(record["n_prompt"]) + int(record["n_gen"])
        try:
            plan = plan_model(
                facts,
                profile,
                Recipe(recipe.format, recipe.precision),
                max(length, 1) if length else None,
                batch=int(record["batch"]),
                engine=engine_for(profile, recipe.format),
                prompt=int(record["n_prompt"]) or None,
            )
        except EdgewardError as error:
            return {}, "", error.what
        found: dict[str, float] = {"peak_memory_bytes": plan.memory.total}
        if plan.ttft_s is not None:
            name = "ttft_ms" if facts.writes_text else "latency_ms"
            found[name] = plan.ttft_s * 1e3
        if plan.tpot_s is not None:
            found["tpot_ms"] = plan.tpot_s * 1e3
        return found, profile.name, _words(record, profile)

    def _profile(self, record: Mapping[str, Any]) -> Profile | None:
        """An engine without its GPU's libraries runs on the processor of a machine with a GPU."""
        if len(self._profiles) < 2:
            return next(iter(self._profiles), None)
        on_processor = str(record["backends"]).startswith(_PROCESSOR)
        units = ((profile, self._unit(profile)) for profile in self._profiles)
        return next(
            (each for each, unit in units if unit and (unit == "cpu") == on_processor), None
        )

    def _unit(self, profile: Profile) -> str:
        recipe = self._bundle.manifest.recipe
        try:
            engine = engine_for(profile, recipe.format)
        except EdgewardError:
            return ""
        return unit_of(profile, engine, recipe.precision)


def open_predictor(bundle: Bundle, target: str | None) -> Predictor:
    """Return a bundle's predictor: on `target`, else on this machine's profile.

    That is the one that `edgeward targets calibrate` wrote, else the best that matches. Raises
    UsageError or ProfileError where `target` is named and cannot be loaded.
    """
    profiles = [load(target)] if target else _own_profiles()
    return Predictor(bundle, profiles, facts_of(bundle))


def facts_of(bundle: Bundle) -> ModelFacts | None:
    """Return what a plan needs of a bundle's model; None where no plan reads it."""
    entry = bundle.entry
    source = entry if entry.suffix == ".gguf" else bundle.path / "config.json"
    try:
        return read_facts(os.fspath(source))
    except EdgewardError:
        return None


def off(predicted: float, measured: object) -> float | None:
    """Return the error of a prediction in percent of what was measured."""
    if not isinstance(measured, (int, float)) or measured <= 0:
        return None
    return 100 * (predicted / measured - 1)


def _own_profiles() -> list[Profile]:
    known = names()
    try:
        matching = [profile for profile, _ in ranked(map(load, known), probe())]
        return [*([load(CALIBRATED)] if CALIBRATED in known else []), *matching]
    except EdgewardError:
        return []


def _is_gpus_memory(target: str) -> bool:
    try:
        return load(target).memory_is_the_gpus
    except EdgewardError:
        return False


def _words(record: Mapping[str, Any], profile: Profile) -> str:
    if profile.memory_is_the_gpus:
        return _GPUS_MEMORY
    threads, cores = int(record["n_threads"]), profile.hardware.cores
    if threads and threads < cores and profile.name != CALIBRATED:
        return f"for {cores} cores, measured with {threads} threads"
    return ""
