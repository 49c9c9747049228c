"""Draws size and accuracy. usage: coreml_picture.py OUT.svg MODEL, the rows on stdin."""

from __future__ import annotations

import json
import sys

import matplotlib
from matplotlib import pyplot

matplotlib.use("svg")

COLOURS = {"ours": "#1f6feb", "plain": "#c2410c"}


def main() -> None:
    """Read rows, write the picture."""
    rows = [row for row in json.load(sys.stdin) if row.get("lost") is not None]
    figure, axes = pyplot.subplots(figsize=(9, 5))
    points = sorted((row["mb"], max(row["lost"], 1e-8)) for row in rows)
    best = [
        p for p in points if not any(s <= p[0] and k <= p[1] and (s, k) != p for s, k in points)
    ]
    axes.plot([size for size, _ in best], [lost for _, lost in best], color="#94a3b8", zorder=1)
    for row in rows:
        place = (row["mb"], max(row["lost"], 1e-8))
        axes.scatter(*place, color=COLOURS[row["who"]], zorder=2, s=28)
        axes.annotate(
            row["precision"], place, fontsize=7, xytext=(5, 5), textcoords="offset points"
        )
    axes.set_yscale("log")
    axes.set_xlabel("MB")
    axes.set_ylabel("lost: 1 - cosine, or KL in nats")
    title = f"{sys.argv[2]} in Core ML, by the evaluator"
    axes.set_title(f"{title}. Down and left is better; blue: ours, orange: plain", size=10)
    figure.tight_layout()
    figure.savefig(sys.argv[1], metadata={"Date": None})


if __name__ == "__main__":
    main()
