"""Which of several artifacts are worth having, and a picture of them. Rules without I/O."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 720, 440, 80, 56, 150, 56
_LEAST = 1e-7


@dataclass(frozen=True, slots=True)
class Point:
    """An artifact by what it costs and what it loses: less is better in both."""

    name: str
    cost: float
    loss: float


def front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats in both, the cheapest first."""
    best: list[Point] = []
    for point in sorted(points, key=lambda one: (one.cost, one.loss)):
        if not best or point.loss < best[-1].loss:
            best.append(point)
    return best


def pareto_picture(
    title: str, points: Sequence[Point], cost: str, loss: str, chosen: str = ""
) -> str:
    """Return an SVG document: losses on a logarithmic scale over costs, the front as a line.

    `cost` and `loss` name the axes with their units; `chosen` is the point drawn as the winner.
    """
    frame = _Frame(points)
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text x="16" y="26" font-size="15" font-weight="bold">{_safe(title)}</text>',
        *frame.axes(cost, loss),
        f'<polyline points="{frame.line(front(points))}" fill="none" stroke="#94a3b8"/>',
        *(mark for point in points for mark in frame.mark(point, point.name == chosen)),
    ]
    return "\n".join([*lines, "</svg>"]) + "\n"


class _Frame:
    """Where a cost and a loss lie in the picture."""

    def __init__(self, points: Sequence[Point]) -> None:
        self._most = max((point.cost for point in points), default=1.0) * 1.08 or 1.0
        exponents = [math.log10(max(point.loss, _LEAST)) for point in points] or [0.0]
        self._low = math.floor(min(exponents))
        self._high = max(math.ceil(max(exponents)), self._low + 1)

    def line(self, points: Sequence[Point]) -> str:
        """The corners of a line through points."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in map(self._place, points))

    def mark(self, point: Point, chosen: bool) -> Iterator[str]:
        """A point with its name."""
        x, y = self._place(point)
        colour, radius = ("#c2410c", 6) if chosen else ("#1f6feb", 4)
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"/>'
        yield f'<text x="{x + 9:.1f}" y="{y + 4:.1f}">{_safe(point.name)}</text>'

    def axes(self, cost: str, loss: str) -> Iterator[str]:
        """Both axes, their names and a few numbers."""
        bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
        yield (
            f'<path d="M{_LEFT} {_TOP} V{bottom} H{right}" fill="none" stroke="#404040" '
            'stroke-width="1"/>'
        )
        for part in range(5):
            value = self._most * part / 4
            x = _LEFT + (right - _LEFT) * part / 4
            yield f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{value:.3g}</text>'
        for exponent in range(self._low, self._high + 1):
            y = self._height(float(exponent))
            yield f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">1e{exponent}</text>'
        yield f'<text x="{_LEFT}" y="{_TOP - 10}">{_safe(loss)}</text>'
        yield (
            f'<text x="{right}" y="{bottom + 38}" text-anchor="end">'
            f"{_safe(cost)}; left and down is better</text>"
        )

    def _place(self, point: Point) -> tuple[float, float]:
        x = _LEFT + (_WIDTH - _RIGHT - _LEFT) * point.cost / self._most
        return x, self._height(math.log10(max(point.loss, _LEAST)))

    def _height(self, exponent: float) -> float:
        share = (exponent - self._low) / (self._high - self._low)
        return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * share


def _safe(text: str) -> str:
    return escape("".join(letter if letter.isprintable() else "?" for letter in text[:120]))
