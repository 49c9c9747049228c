"""What the planner predicts beside what others published, without any calibration.

usage: python benchmarks/plan/published.py [--write]

Prints the section of docs/planning.md, `--write` puts it there. The figures, each with its page and
its words, stand in `published.toml`. Half of the pairs of device and model, chosen by a digest of
their names, are held back: no constant of the planner was fitted on them. They are half of each
kind of hardware, of what writes text there and of what does not, less one where that is odd.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from edgeward.targets.load import load
from edgeward.targets.plan.facts import ModelFacts
from edgeward.targets.plan.gather import facts_of
from edgeward.targets.plan.predict import Prediction, plan_model
from edgeward.targets.profile import Engine, Profile, Recipe

try:
    import tomllib
except ModuleNotFoundError:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(__file__).with_name("published.toml")
CONFIGS = ROOT / "tests" / "targets" / "plan" / "configs"
PAGE = ROOT / "docs" / "planning.md"
BEGIN, END = "<!-- published: begin -->", "<!-- published: end -->"
GIB = 2**30
UNITS = {
    "decode": "tokens/s",
    "prefill": "tokens/s",
    "ttft": "ms",
    "latency": "ms",
    "memory": "GiB",
}
TITLES = {
    "decode": "tokens a second",
    "prefill": "prompts, tokens a second",
    "ttft": "time to the first token",
    "latency": "latency",
    "memory": "memory",
}


@dataclass(frozen=True)
class Figure:
    """One published figure: what ran where, and what stands for it in a prediction."""

    device: str
    model: str
    engine: str
    precision: str
    recipe: Recipe
    as_engine: str
    provider: str
    kind: str
    value: float
    context: int | None
    prompt: int | None
    batch: int
    image: int | None
    unlike: str
    quote: str
    source: str

    @property
    def pair(self) -> str:
        """The device and the model."""
        return f"{self.device}/{self.model}"

    @property
    def family(self) -> str:
        """What the device computes with, as the planner's shares are told apart."""
        if self.model.startswith("resnet"):
            return "convolutions"
        if self.device.startswith(("inf", "trn")):
            return "Neuron"
        if self.device.startswith(("m1", "m2", "m3", "m4", "m5", "iphone")):
            return "Apple"
        if self.device.startswith("jetson"):
            return "Jetson"
        return "processor" if self.provider == "CPU" else "server GPU"

    def predicted(self) -> float:
        """Return what the planner says, in the figure's unit."""
        profile, facts = _profile(self.device), _facts(self.model, self.image)
        engine = self._engine(profile)
        length = self.context if self.kind != "prefill" else self.prompt
        plan = plan_model(
            facts,
            profile,
            self.recipe,
            length or _length(self, facts),
            self.batch,
            engine=engine,
            prompt=self.prompt,
        )
        return READ[self.kind](plan, self)

    def _engine(self, profile: Profile) -> Engine:
        own = next((each for each in profile.engines if each.name == self.as_engine), None)
        if own is not None and (not self.provider or own.providers[:1] == (self.provider,)):
            return own
        providers = (self.provider,) if self.provider else ()
        return Engine(self.as_engine, "", None, providers, {})


def _length(figure: Figure, facts: ModelFacts) -> int | None:
    return figure.prompt if facts.writes_text else None


@lru_cache
def _profile(device: str) -> Profile:
    return load(device)


@lru_cache
def _facts(model: str, image: int | None) -> ModelFacts:
    document: dict[str, dict[str, object]] = json.loads((CONFIGS / f"{model}.json").read_text())
    size = {"image_size": image} if image else {}
    return facts_of({**document["config"], **size}, name=model)


def _needed(seconds: float | None) -> float:
    if seconds is None:
        raise ValueError("the planner gives no time for this")
    return seconds


READ: Mapping[str, Callable[[Prediction, Figure], float]] = {
    "decode": lambda plan, _: 1 / _needed(plan.tpot_s),
    "prefill": lambda plan, figure: (figure.prompt or 0) / _needed(plan.ttft_s),
    "ttft": lambda plan, _: 1e3 * _needed(plan.ttft_s),
    "latency": lambda plan, _: 1e3 * _needed(plan.ttft_s),
    "memory": lambda plan, _: (plan.memory.total - plan.memory.engine) / GIB,
}


def figures() -> Iterator[Figure]:
    """Give every figure of `published.toml`."""
    for row in _document()["measured"]:
        format_name, precision = row["recipe"].split()
        for figure in row["figures"]:
            yield Figure(
                device=row["device"],
                model=row["model"],
                engine=row["engine"],
                precision=row["precision"],
                recipe=Recipe(format_name, precision),
                as_engine=row["as_engine"],
                provider=row.get("provider", ""),
                kind=figure["figure"],
                value=float(figure["value"]),
                context=figure.get("context"),
                prompt=figure.get("prompt"),
                batch=figure.get("batch", 1),
                image=figure.get("image"),
                unlike=row.get("unlike", ""),
                quote=figure["quote"],
                source=row["source"],
            )


def held_back(rows: Iterable[Figure]) -> frozenset[str]:
    """Return the pairs that nothing is fitted on: every second one by the digest of its name."""
    strata: dict[tuple[str, bool], set[str]] = {}
    for row in rows:
        strata.setdefault((row.family, row.kind == "latency"), set()).add(row.pair)
    ordered = [sorted(pairs, key=_digest) for pairs in strata.values()]
    return frozenset(pair for pairs in ordered for pair in pairs[1::2])


def _digest(pair: str) -> str:
    return hashlib.sha256(pair.encode()).hexdigest()


def sources() -> dict[str, dict[str, str]]:
    """Return the pages by the name that figures call them."""
    found: dict[str, dict[str, str]] = _document()["sources"]
    return found


def _document() -> dict[str, object]:
    return tomllib.loads(DATA.read_text(encoding="utf-8"))


def error(figure: Figure) -> float:
    """Return how far the prediction is off, in percent of what was published."""
    return 100 * (figure.predicted() / figure.value - 1)


def section() -> str:
    """Return the section's text in Markdown."""
    rows = sorted(figures(), key=lambda each: (list(UNITS).index(each.kind), each.device))
    errors = {figure: error(figure) for figure in rows}
    pairs, held = {each.pair for each in rows}, held_back(rows)
    numbers = {name: number for number, name in enumerate(sources(), 1)}
    count = sum(row.pair in held for row in rows)
    told = f"{len(rows)} figures of {len(pairs)} pairs of device and model"
    return "\n".join(
        [
            f"{told}; held back from every fit: {count} figures of {len(held)} pairs, marked *.",
            "",
            *_medians(errors, held),
            "",
            *_table(errors, held, numbers),
            "",
            *_pages(numbers),
        ]
    )


def _medians(errors: Mapping[Figure, float], held: frozenset[str]) -> Iterator[str]:
    yield "| figure | on | figures | median error | worst | of those held back | worst |"
    yield "|---|---|---|---|---|---|---|"
    kinds = dict.fromkeys((each.kind, each.family) for each in errors)
    for kind, family in kinds:
        mine = {f: e for f, e in errors.items() if (f.kind, f.family) == (kind, family)}
        fitted = [e for f, e in mine.items() if f.pair not in held]
        other = [e for f, e in mine.items() if f.pair in held]
        cells = [*_summary(fitted), *_summary(other)]
        yield f"| {TITLES[kind]} | {family} | {len(mine)} | " + " | ".join(cells) + " |"


def _summary(errors: Sequence[float]) -> tuple[str, str]:
    if not errors:
        return "", ""
    middle = statistics.median(abs(each) for each in errors)
    return f"{middle:.0f} %", f"{max(errors, key=abs):+.0f} %"


def _table(
    errors: Mapping[Figure, float], held: frozenset[str], numbers: Mapping[str, int]
) -> Iterator[str]:
    yield "| device | model | engine, precision | figure | predicted | published | error | page |"
    yield "|---|---|---|---|---|---|---|---|"
    for figure, off in errors.items():
        predicted = figure.value * (1 + off / 100)
        mark = " *" if figure.pair in held else ""
        yield (
            f"| {figure.device} | {figure.model} | {figure.engine}, {figure.precision} "
            f"| {_asked(figure)} | {predicted:.3g} | {figure.value:.3g} {UNITS[figure.kind]} "
            f"| {off:+.0f} %{mark} | [{numbers[figure.source]}] |"
        )


def _asked(figure: Figure) -> str:
    parts = [figure.kind]
    if figure.kind in ("prefill", "ttft") and figure.prompt:
        parts.append(f"of {figure.prompt}")
    elif figure.context:
        parts.append(f"at {figure.context}")
    if figure.image:
        parts.append(f"of {figure.image} x {figure.image}")
    if figure.batch > 1:
        parts.append(f"x {figure.batch}")
    return " ".join(parts)


def _pages(numbers: Mapping[str, int]) -> Iterator[str]:
    pages = sources()
    for name, number in numbers.items():
        end = "." if number == len(numbers) else ","
        yield f"[{number}] [{pages[name]['title']}]({pages[name]['url']}){end}"


def written(page: str) -> str:
    """Return the page with the section between its marks."""
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    text = f"{BEGIN}\n{section()}\n{END}"
    return pattern.sub(lambda _: text, page)


def main() -> None:
    """Print the section, or write it into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    if parser.parse_args().write:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
        return
    print(section())


if __name__ == "__main__":
    main()
