"""What one contestant did on one model, and how a table of them is printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """Speeds are over those of our fp32, by phase; what a contestant has no figure for is None."""

    model: str
    name: str
    speeds: Mapping[str, float]
    mebibytes: float | None = None
    accuracy: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None
    peak_mebibytes: float | None = None

    @property
    def lost(self) -> float:
        """What rounding cost: 1 - cosine, or divergence in nats."""
        return 1 - self.accuracy["cosine"] if "cosine" in self.accuracy else self.accuracy["KL"]


def print_rows(rows: Sequence[Row]) -> None:
    """Print one model's rows as Markdown."""
    print(table(rows), flush=True)


def table(rows: Sequence[Row]) -> str:
    """Return one model's rows as a Markdown table."""
    first = rows[0]
    phases, measures = list(first.speeds), list(first.accuracy)
    head = [first.model, *phases, "MiB", *measures, "made in s", "peak MiB"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        cells = [
            row.name,
            *(f"{row.speeds[phase]:.2f}" for phase in phases),
            _figure(row.mebibytes, ".1f"),
            *(_figure(row.accuracy.get(measure), ".4g") for measure in measures),
            _figure(row.seconds, ".0f"),
            _figure(row.peak_mebibytes, ".0f"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _figure(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
