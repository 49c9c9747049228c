"""Measurements as a picture: a bar to the median, a line on to p99, a mark at what was planned.

SVG 1.1 as plain text; lengths are in user units.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from edgeward.errors import UsageError

Record = Mapping[str, Any]
# Figure: median's key, far key, the plan's key, factor to its unit, unit.
FIGURES: dict[str, tuple[str, str | None, str | None, float, str]] = {
    "latency": ("latency_p50_ms", "latency_p99_ms", "predicted_latency_ms", 1.0, "ms"),
    "ttft": ("ttft_p50_ms", "ttft_p99_ms", "predicted_ttft_ms", 1.0, "ms"),
    "tpot": ("tpot_p50_ms", "tpot_p99_ms", "predicted_tpot_ms", 1.0, "ms"),
    "throughput": ("throughput_per_s", None, None, 1.0, "samples/s"),
    "decode": ("decode_ts", None, None, 1.0, "tokens/s"),
    "rtf": ("real_time_factor", None, None, 1.0, "seconds a second of sound"),
    "memory": ("peak_memory_bytes", None, "predicted_peak_memory_bytes", 1 / 2**20, "MiB"),
}
_ROW, _BAR, _LEFT, _WIDTH, _RIGHT, _TOP, _FOOT = 30, 16, 330, 500, 130, 78, 34
_FILL, _FAR, _PLAN = "#3b6ea5", "#e0a030", "#c03030"
_TICKS = 5


def picture(records: Sequence[Record], figure: str) -> str:
    """Return an SVG document with a bar for each record that has the figure.

    Raises UsageError where none has it.
    """
    median, far, plan, factor, unit = FIGURES[figure]
    rows = [record for record in records if record.get(median) is not None]
    if not rows:
        raise UsageError(
            f"None of these measurements has the figure {figure}",
            why=f"there are {len(records)}",
            next="edgeward bench list",
        )
    keys = [key for key in (median, far, plan) if key]
    largest = max(float(row.get(key) or 0.0) for row in rows for key in keys) * factor or 1.0
    scale = _WIDTH / largest
    height, width = _TOP + _ROW * len(rows) + _FOOT, _LEFT + _WIDTH + _RIGHT
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="26" font-size="15" font-weight="bold">{figure}, {unit}</text>',
        *_legend(far is not None, any(row.get(plan or "") is not None for row in rows)),
        *_axis(largest, scale, _TOP + _ROW * len(rows)),
    ]
    for number, row in enumerate(rows):
        values = (float(row[key]) * factor if key and row.get(key) else None for key in
                  (median, far, plan))  # fmt: skip
        lines += _bar(_label(row), _TOP + number * _ROW, scale, *values)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _legend(far: bool, plan: bool) -> Iterator[str]:
    yield f'<rect x="16" y="42" width="12" height="12" fill="{_FILL}"/>'
    yield f'<text x="34" y="52">{"median" if far else "measured"}</text>'
    if far:
        yield f'<line x1="110" y1="48" x2="134" y2="48" stroke="{_FAR}" stroke-width="3"/>'
        yield '<text x="140" y="52">to p99</text>'
    if plan:
        yield f'<line x1="210" y1="41" x2="210" y2="55" stroke="{_PLAN}" stroke-width="2"/>'
        yield '<text x="218" y="52">predicted</text>'


def _axis(largest: float, scale: float, bottom: int) -> Iterator[str]:
    step = round_step(largest / _TICKS)
    for tick in range(int(largest / step + 1e-9) + 1):
        value = tick * step
        x = _LEFT + value * scale
        yield f'<line x1="{x:.1f}" y1="{_TOP - 8}" x2="{x:.1f}" y2="{bottom}" stroke="#e4e4e4"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{_number(value)}</text>'


def round_step(least: float) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(times * power for times in (1, 2, 5, 10) if times * power >= least)


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.4g}"


def _bar(
    label: str, y: int, scale: float, median: float | None, far: float | None, plan: float | None
) -> Iterator[str]:
    value = median or 0.0
    end = _LEFT + value * scale
    yield f'<text x="{_LEFT - 10}" y="{y + 13}" text-anchor="end">{_safe(label)}</text>'
    yield (
        f'<rect x="{_LEFT}" y="{y}" width="{value * scale:.1f}" height="{_BAR}" fill="{_FILL}"/>'
    )
    if far is not None:
        middle, until = y + _BAR / 2, _LEFT + far * scale
        yield (
            f'<line x1="{end:.1f}" y1="{middle}" x2="{until:.1f}" y2="{middle}" '
            f'stroke="{_FAR}" stroke-width="3"/>'
        )
        end = max(end, until)
    if plan is not None:
        x = _LEFT + plan * scale
        yield (
            f'<line x1="{x:.1f}" y1="{y - 3}" x2="{x:.1f}" y2="{y + _BAR + 3}" '
            f'stroke="{_PLAN}" stroke-width="2"/>'
        )
        end = max(end, x)
    yield f'<text x="{end + 8:.1f}" y="{y + 13}">{_number(value)}</text>'


def _label(record: Record) -> str:
    told = [str(record.get("id", "")), str(record.get("bundle")), str(record.get("precision"))]
    if record.get("scenario") != "SingleStream":
        told.append(str(record.get("scenario")))
    for name, letter in (("n_threads", "t"), ("batch", "b"), ("n_prompt", "p")):
        if record.get(name):
            told.append(f"{letter}{record[name]}")
    text = " ".join(told)
    return text if len(text) <= 46 else f"{text[:22]}…{text[-22:]}"


def _safe(text: str) -> str:
    return escape("".join(letter if letter.isprintable() else "?" for letter in text))
