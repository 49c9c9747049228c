"""Rounding against plain arithmetic; run with the `coreml` toolchain's Python."""

from __future__ import annotations

import json

import numpy as np
import torch

from edgeward.compiler.formats.coreml_rounding import to_grid, to_table


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
    few = random.choice([-0.5, 0.25, 1.5], (32, 64)).astype(np.float32)
    figures = {
        "int8_within_half_a_step": float((np.abs(grid.dense() - scaled) / steps).max()),
        "int8_is_its_product": float(
            np.abs(grid.dense() - grid.data * grid.scale.astype(np.float32)).max()
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
