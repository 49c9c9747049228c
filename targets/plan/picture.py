"""The memory as a picture: a bar for each prediction, its parts, and the line it has to stay under.

SVG 1.1 as plain text. Lengths are in user units; each bar is scaled to its own target's memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from .predict import Prediction
from .show import gib

_COLOURS = {
    "weights": "#3b6ea5",
    "cache": "#e0a030",
    "activations": "#7aa96b",
    "logits": "#b06fa0",
    "engine": "#8c8c8c",
}
_ROW, _BAR, _LEFT, _WIDTH, _RIGHT, _TOP = 30, 18, 250, 520, 170, 78
_OVERFLOW = 1.15


def memory_picture(title: str, rows: Sequence[Prediction]) -> str:
    """Return an SVG document with a bar for each row."""
    height = _TOP + _ROW * len(rows) + 16
    width = _LEFT + _WIDTH + _RIGHT
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="26" font-size="15" font-weight="bold">{_safe(title)}</text>',
        *_legend(),
    ]
    for number, row in enumerate(rows):
        lines += _bar(row, _TOP + number * _ROW)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _legend() -> Iterator[str]:
    for number, (name, colour) in enumerate(_COLOURS.items()):
        x = 16 + number * 110
        yield f'<rect x="{x}" y="42" width="12" height="12" fill="{colour}"/>'
        yield f'<text x="{x + 18}" y="52">{name}</text>'
    yield f'<line x1="580" y1="40" x2="580" y2="56" {_LIMIT}/>'
    yield '<text x="588" y="52">usable memory</text>'


_LIMIT = 'stroke="#c03030" stroke-width="2"'


def _bar(row: Prediction, y: int) -> Iterator[str]:
    largest = max(row.usable_bytes, min(row.memory.total, int(row.usable_bytes * _OVERFLOW)))
    scale = _WIDTH / (largest or 1)
    label = _safe(f"{row.target}  {row.format} {row.precision}")
    yield f'<text x="{_LEFT - 10}" y="{y + 13}" text-anchor="end">{label}</text>'
    yield f'<rect x="{_LEFT}" y="{y}" width="{_WIDTH}" height="{_BAR}" fill="#f0f0f0"/>'
    left = 0.0
    for name, size in row.memory.parts().items():
        wide = min(size * scale, _WIDTH - left)
        if wide > 0:
            yield (
                f'<rect x="{_LEFT + left:.1f}" y="{y}" width="{wide:.1f}" height="{_BAR}" '
                f'fill="{_COLOURS[name]}"><title>{name} {gib(size)} GiB</title></rect>'
            )
        left += max(wide, 0.0)
    edge = _LEFT + row.usable_bytes * scale
    yield f'<line x1="{edge:.1f}" y1="{y - 3}" x2="{edge:.1f}" y2="{y + _BAR + 3}" {_LIMIT}/>'
    said = f"{gib(row.memory.total)} of {gib(row.usable_bytes)} GiB"
    colour = "#202020" if row.fits else "#c03030"
    yield f'<text x="{_LEFT + _WIDTH + 10}" y="{y + 13}" fill="{colour}">{said}</text>'


def _safe(text: str) -> str:
    return escape("".join(letter if letter.isprintable() else "?" for letter in text[:120]))
