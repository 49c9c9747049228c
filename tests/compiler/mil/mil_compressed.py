"""Compresses a small program in every way; what is left is held against coremltools' own weights.

`mil_compressed.py RESULTS`, inside the toolchain `coreml`.
"""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import torch
from mil_rows_compressed import COMPRESSED, Compressed
from torch import nn

from edgeward.compiler.mil.package import quiet
from edgeward.compiler.mil.program import load_program


class Small(nn.Module):
    """A table, a convolution and a product: a weight of each rank."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(64, 32)
        self.conv = nn.Conv1d(32, 48, 4)
        self.product = nn.Linear(48, 64)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Take ids (1, 8), return (1, 5, 64)."""
        found = self.conv(self.table(ids).transpose(1, 2))
        return self.product(torch.tanh(found.transpose(1, 2)))


def linear(model: Any, joint_compression: bool = False, **how: Any) -> Any:
    """Round weights to whole numbers."""
    op = cto.OpLinearQuantizerConfig(weight_threshold=0, **how)
    config = cto.OptimizationConfig(global_config=op)
    more = {"joint_compression": True} if joint_compression else {}
    return cto.linear_quantize_weights(model, config, **more)


def palette(model: Any, joint_compression: bool = False, **how: Any) -> Any:
    """Put weights into tables."""
    op = cto.OpPalettizerConfig(weight_threshold=0, **{"mode": "kmeans", **how})
    config = cto.OptimizationConfig(global_config=op)
    more = {"joint_compression": True} if joint_compression else {}
    return cto.palettize_weights(model, config, **more)


def prune(model: Any) -> Any:
    """Leave a half of the weights out."""
    op = cto.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=0)
    return cto.prune_weights(model, cto.OptimizationConfig(global_config=op))


_SCOPE = {
    "linear": linear,
    "palette": palette,
    "prune": prune,
    "BLOCK": {"granularity": "per_block", "block_size": 16},
    "GROUP": {"granularity": "per_grouped_channel", "group_size": 8},
}


def plain(opset: str) -> Any:
    """Return the program with whole weights."""
    torch.manual_seed(0)
    ids = torch.arange(8, dtype=torch.int32)[None]
    exported = torch.export.export(Small().eval(), (ids,), strict=False).run_decompositions({})
    return ct.convert(exported, minimum_deployment_target=getattr(ct.target, opset))


def checked(row: Compressed, model: Any, folder: Path) -> dict[str, Any]:
    """Return the operators, how far outputs are from whole weights and from coremltools' own."""
    made = eval(row.how, {**_SCOPE, "model": model})  # noqa: S307
    found = {}
    for kind, one in (
        ("compressed", made),
        ("decompressed", cto.decompress_weights(made)),
        ("plain", model),
    ):
        path = folder / f"{row.name}-{kind}.mlpackage"
        one.save(str(path))
        program = load_program(path)
        ids = np.array([[3, 63, 0, 17, 31, 32, 5, 50]], np.int32)
        (name,) = program.inputs
        (out,) = program.run({name: ids}, rounded=False).values()
        found[kind] = out.astype(np.float64)
        if kind == "compressed":
            operators = program.operators()
    return {
        "operators": sorted(operators),
        "constexprs": sum(n for one, n in operators.items() if one.startswith("constexpr_")),
        "apart": float(np.abs(found["compressed"] - found["decompressed"]).max()),
        "lost": float(np.abs(found["compressed"] - found["plain"]).max()),
    }


def main() -> None:
    """Check every row."""
    torch.set_num_threads(1)
    results, models = {}, {}
    with quiet(), tempfile.TemporaryDirectory() as folder:
        for row in COMPRESSED:
            try:
                if row.opset not in models:
                    models[row.opset] = plain(row.opset)
                results[row.name] = checked(row, models[row.opset], Path(folder))
            except Exception:  # noqa: BLE001, PERF203
                results[row.name] = {"error": traceback.format_exc()[-1500:]}
    Path(sys.argv[1]).write_text(json.dumps(results), "utf-8")


if __name__ == "__main__":
    main()
