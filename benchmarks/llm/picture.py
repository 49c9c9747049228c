"""Draws size and divergence. usage: picture.py OUT.svg TITLE, rows of name, bytes, KL on stdin."""

from __future__ import annotations

import json
import sys

import matplotlib
from matplotlib import pyplot

matplotlib.use("svg")

MIXED, PLAIN = "#1f6feb", "#c2410c"


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
        mixed = name.startswith("mixed")
        axes.scatter(size / 1e6, lost, color=MIXED if mixed else PLAIN, zorder=2, s=28)
        if not mixed:
            axes.annotate(
                name, (size / 1e6, lost), fontsize=7, xytext=(5, 5), textcoords="offset points"
            )
    axes.set_yscale("log")
    axes.set_xlabel("MB")
    axes.set_ylabel("lost: KL, nats")
    axes.set_title(
        f"{sys.argv[2]}. Down and left is better; blue: mixed, orange: one rule", size=10
    )
    figure.tight_layout()
    figure.savefig(sys.argv[1], metadata={"Date": None})


if __name__ == "__main__":
    main()
