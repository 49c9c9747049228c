"""Draws accuracy, speed and size. usage: pareto.py OUT.svg, rows as JSON on stdin."""

from __future__ import annotations

import json
import statistics
import sys

import matplotlib
from matplotlib import pyplot

matplotlib.use("svg")

OURS, THEIRS = "#1f6feb", "#c2410c"
# What is told as exact has no place on a logarithmic axis but this.
LEAST = 1e-7


def draw(axes, model, rows):
    """One model's contestants; the frontier joins those that none beats in both."""
    points = [
        (statistics.geometric_mean(row["speeds"].values()), max(row["lost"], LEAST), row)
        for row in rows
    ]
    best = [
        p for p in points if not any(q[0] >= p[0] and q[1] <= p[1] and q is not p for q in points)
    ]
    best.sort(key=lambda point: point[0])
    axes.plot([p[0] for p in best], [p[1] for p in best], color="#94a3b8", linewidth=1, zorder=1)
    largest = max(row["mebibytes"] for _, _, row in points)
    for speed, loss, row in points:
        ours = row["name"].startswith("edgeward")
        area = 30 + 470 * row["mebibytes"] / largest
        color = OURS if ours else THEIRS
        axes.scatter(speed, loss, s=area, color=color, alpha=0.55, zorder=2)
        axes.annotate(
            f"{row['name'].removeprefix('edgeward ')} {row['mebibytes']:.0f} MiB",
            (speed, loss),
            fontsize=7,
            xytext=(6, 6) if ours else (-6, -11),
            ha="left" if ours else "right",
            textcoords="offset points",
        )
    axes.set_yscale("log")
    axes.invert_yaxis()
    axes.margins(0.2)
    axes.set_title(model, fontsize=10)
    axes.set_xlabel("speed over edgeward fp32")
    axes.set_ylabel(
        "lost: 1 - cosine" if "cosine" in points[0][2]["accuracy"] else "lost: KL, nats"
    )


def main():
    """Read rows, write the picture."""
    models = {}
    for row in json.load(sys.stdin):
        models.setdefault(row["model"], []).append(row)
    columns = 2
    lines = -(-len(models) // columns)
    figure, grid = pyplot.subplots(lines, columns, figsize=(11, 4.2 * lines), squeeze=False)
    for axes, (model, rows) in zip(grid.flat[: len(models)], models.items(), strict=True):
        draw(axes, model, rows)
    for axes in grid.flat[len(models) :]:
        axes.set_visible(False)
    figure.suptitle(
        "Up and right is better; area is size. Blue: edgeward, orange: peers.", fontsize=10
    )
    figure.tight_layout()
    figure.savefig(sys.argv[1])


if __name__ == "__main__":
    main()
