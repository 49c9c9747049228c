"""A whole plan: the model read, the targets loaded, the rows predicted and rendered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeward.errors import DoesNotFitError, EdgewardError, UsageError
from edgeward.runtimes.output import cell, render_json, render_rows
from edgeward.targets.load import load, names
from edgeward.targets.profile import Price, Profile

from . import show
from .advise import every_plan, overview
from .facts import ModelFacts
from .memory import Training, training_of
from .picture import memory_picture
from .precision import CACHE_BITS
from .predict import Prediction, default_context
from .read import read_facts


@dataclass(frozen=True, slots=True)
class Report:
    """A model's predictions, and what is said beside them."""

    facts: ModelFacts
    rows: tuple[Prediction, ...]
    training: Training
    context: int
    warnings: tuple[str, ...]
    misfits: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """Return 4 where nothing fits a target that was named, else 0."""
        return DoesNotFitError.exit_code if self.misfits else 0

    def render(self, form: str) -> str:
        """Return the report as `table`, `json`, `jsonl`, `csv` or `svg`."""
        if form == "svg":
            return memory_picture(self._title(), self.rows)
        if form == "json":
            return render_json(show.document(self.facts, self.rows, self.training))
        if form == "table":
            return self._table()
        return render_rows([show.machine_row(row) for row in self.rows], show.MACHINE_COLUMNS, form)

    def write_picture(self, path: Path) -> None:
        """Write the SVG; UsageError where it cannot be written."""
        try:
            path.write_text(self.render("svg"), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{path} cannot be written", why=error.strerror or "") from error

    def _title(self) -> str:
        return f"{self.facts.name}: memory at {self.context} tokens"

    def _table(self) -> str:
        sequences = self.rows[0].sequences if self.rows else 1
        lines = [
            cell(show.headline(self.facts, self.context, sequences)),
            show.parts_line(self.facts),
            show.training_line(self.training),
            "",
        ]
        rows = [show.people_row(row) for row in self.rows]
        table = render_rows(rows, show.columns(self.rows), "table")
        paid = show.prices_line(self.rows)
        return "\n".join(lines) + "\n" + table + (f"\n{cell(paid)}\n" if paid else "")


def report(
    model: str,
    *,
    targets: Sequence[str] = (),
    context: int | None = None,
    batch: int = 1,
    concurrency: int = 1,
    prompt: int | None = None,
    cache: str = "",
    precision: str = "",
    revision: str = "main",
    show_all: bool = False,
    price: float | None = None,
) -> Report:
    """Plan a model for the named targets, all of them where none is named.

    `price` is what an hour of the one target costs, in dollars, in place of the profile's. Raises
    SourceError for a model that cannot be read, UsageError for an unknown target or type, and for a
    price of several targets.
    """
    if cache and cache not in CACHE_BITS:
        raise UsageError(f"a cache of {cache[:40]!a} is unknown", why=f"known: {_listed()}")
    profiles, warnings = _profiles(targets)
    if price is not None:
        profiles = [_priced(profiles, price)]
    facts = read_facts(model, revision=revision)
    rows = every_plan(
        facts,
        profiles,
        context=context,
        batch=batch,
        concurrency=concurrency,
        cache=cache,
        prompt=prompt,
        precision=precision,
    )
    if not rows:
        wanted = precision or (
            "the format gguf" if facts.counted == "gguf" else "a known precision"
        )
        raise UsageError(
            f"none of the targets takes {wanted[:60]}",
            why=f"targets: {', '.join(profile.name for profile in profiles)}",
            next="edgeward targets show TARGET",
        )
    length = context or default_context(facts)
    fitting = {row.target for row in rows if row.fits}
    return Report(
        facts=facts,
        rows=tuple(rows if show_all else overview(rows, profiles)),
        training=training_of(facts, context=length, batch=batch),
        context=length,
        warnings=tuple(warnings),
        misfits=tuple(
            profile.name for profile in profiles if targets and profile.name not in fitting
        ),
    )


def _profiles(targets: Sequence[str]) -> tuple[list[Profile], list[str]]:
    """The named targets, or all that can be loaded and a warning for each that cannot."""
    if targets:
        return [load(name) for name in dict.fromkeys(targets)], []
    tried = [_tried(name) for name in names()]
    broken = [str(each) for each in tried if isinstance(each, EdgewardError)]
    return [each for each in tried if isinstance(each, Profile)], broken


def _priced(profiles: Sequence[Profile], usd_per_hour: float) -> Profile:
    if not 0 < usd_per_hour < math.inf:
        raise UsageError("--price is a number of dollars above 0")
    if len(profiles) != 1:
        raise UsageError(
            "--price is what an hour of one target costs",
            why=f"{len(profiles)} were planned for",
            next="name one --target",
        )
    return replace(profiles[0], price=Price(usd_per_hour, region="", as_of=""))


def _tried(name: str) -> Profile | EdgewardError:
    try:
        return load(name)
    except EdgewardError as error:
        return error


def _listed() -> str:
    return ", ".join(CACHE_BITS)
