"""Draws size and divergence. usage: picture.py OUT.svg TITLE, rows of name, bytes, KL on stdin."""

from __future__ import annotations

import json
import sys

import matplotlib
from matplotlib import pyplot

matplotlib.use("svg")

COLOURS = {"mixed": "#1f6feb", "fast": "#15803d"}
PLAIN = "#c2410c"


def main():
    """Read rows, write the picture."""
    rows = json.load(sys.stdin)
    figure, axes = pyplot.subplots(figsize=(9, 5))
    best = sorted(
        (size, lost)
        for _, size, lost in rows
        if not any(s <= size and k <= lost and (s, k) != (size, lost) for _, s, k in rows)
    )
    axes.plot(
        [size / 1e6 for size, _ in best], [lost for _, lost in best], color="#94a3b8", zorder=1
    )
    for name, size, lost in rows:
        kind = name.partition(",")[0]
        axes.scatter(size / 1e6, lost, color=COLOURS.get(kind, PLAIN), zorder=2, s=28)
        if kind not in COLOURS:
            axes.annotate(
                name, (size / 1e6, lost), fontsize=7, xytext=(5, 5), textcoords="offset points"
            )
    axes.set_yscale("log")
    axes.set_xlabel("MB")
    axes.set_ylabel("lost: KL, nats")
    legend = "orange: a type of llama.cpp, blue: mixed, green: mixed of fast types"
    axes.set_title(f"{sys.argv[2]}. Down and left is better; {legend}", size=9)
    figure.tight_layout()
    figure.savefig(sys.argv[1], metadata={"Date": None})


if __name__ == "__main__":
    main()
