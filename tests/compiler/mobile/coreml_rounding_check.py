"""Rounding against plain arithmetic; run with the `coreml` toolchain's Python."""

from __future__ import annotations

import json

import numpy as np
import torch

from edgeward.compiler.formats.coreml_rounding import to_grid, to_table


def least_error(points: np.ndarray, size: int) -> float:
    """The least squared error that any table can have, by dynamic programming."""
    ordered = np.sort(points.astype(np.float64))
    total = np.concatenate([[0], ordered.cumsum()])
    squares = np.concatenate([[0], (ordered**2).cumsum()])
    ends = np.arange(1, len(ordered) + 1)

    def errors(starts: np.ndarray, end: int) -> np.ndarray:
        held = total[end] - total[starts]
        return np.asarray(squares[end] - squares[starts] - held**2 / (end - starts))

    best = np.array([errors(np.array([0]), end)[0] for end in ends])
    for _ in range(size - 1):
        before = np.concatenate([[0.0], best])
        best = np.array([(before[:end] + errors(np.arange(end), end)).min() for end in ends])
    return float(best[-1])


def main() -> None:
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    weight = random.standard_normal((64, 96)).astype(np.float32)
    mixing = random.standard_normal((96, 24))
    inputs = (random.standard_normal((400, 24)) @ mixing.T).astype(np.float32)
    moments = torch.from_numpy(inputs.T @ inputs)

    def lost(dense: np.ndarray) -> float:
        """The share of the outputs' energy that rounding costs."""
        return float((((dense - weight) @ inputs.T) ** 2).sum() / ((weight @ inputs.T) ** 2).sum())

    scaled = weight * np.linspace(0.1, 10, 64, dtype=np.float32)[:, None]
    grid = to_grid(scaled, 8, None)
    steps = np.abs(scaled).max(axis=1, keepdims=True) / 127
    above = np.abs(weight)
    own = above.reshape(64, -1, 32).max(axis=2).repeat(32, axis=1) / 255
    few = random.choice([-0.5, 0.25, 1.5], (32, 64)).astype(np.float32)
    tailed = np.sign(weight[:16]) * np.abs(weight[:16]) ** 3  # most are small, few are large
    best = least_error(tailed.ravel(), 64)
    figures = {
        "long_tailed_over_best": float(
            ((to_table(tailed, 6, None).dense() - tailed) ** 2).sum() / best
        ),
        "int8_within_half_a_step": float((np.abs(grid.dense() - scaled) / steps).max()),
        "int8_is_its_product": float(
            np.abs(grid.dense() - grid.data * grid.scale.astype(np.float32)).max()
        ),
        "blocks_within_half_a_step_of_their_range": float(
            (np.abs(to_grid(above, 8, 32).dense() - above) / own).max()
        ),
        "few_values_are_exact": float(np.abs(to_table(few, 4, 16).dense() - few).max()),
        "table_bits": int(to_table(weight, 4, 16).indices.max()),
        "table_groups": len(to_table(weight, 4, 16).values),
        "grid_nearest": lost(to_grid(weight, 4, 32).dense()),
        "grid_compensated": lost(to_grid(weight, 4, 32, moments).dense()),
        "table_nearest": lost(to_table(weight, 4, 16).dense()),
        "table_compensated": lost(to_table(weight, 4, 16, moments).dense()),
        "zero_row": float(np.abs(to_grid(np.zeros((2, 32), np.float32), 4, 32).dense()).max()),
        "idle_inputs": lost(to_grid(weight, 4, 32, torch.zeros(96, 96)).dense()),
    }
    print(json.dumps(figures))


main()
