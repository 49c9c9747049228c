"""What is made of constants alone; run with the `litert` toolchain's Python.

usage: check_constant_products.py FOLDER. Prints JSON: the cosine of a file whose product of two
constants is left in float by rule, of one where it is not (null where it is no number), how many
such products each has in int8, and the operators that are left of attention over constants with
and without dropout.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ai_edge_litert.interpreter import Interpreter
from torch import nn
from torch.nn import functional

from edgeward.compiler.formats.tflite_quantise import kept_steps, round_file, steps_of
from edgeward.compiler.formats.tflite_rules import constant_products
from edgeward.compiler.formats.tflite_worker import write_signatures
from edgeward.compiler.mobile.front import Front
from edgeward.compiler.mobile.graph import simplified
from edgeward.runtimes.engines.litert_file import read_tflite

_PRECISION, _WIDTH = "int8-dynamic", 32


def buffer(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Added(nn.Module):
    """A layer of what is given, and a product of two constants."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(_WIDTH, _WIDTH)
        self.layer.weight.data = buffer(_WIDTH, _WIDTH, seed=2)
        self.register_buffer("one", buffer(2, 8, 16, seed=0))
        self.register_buffer("other", buffer(2, 16, _WIDTH, seed=1))

    def forward(self, given: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.layer(given) + torch.matmul(self.one, self.other),)


class Attended(nn.Module):
    """Attention over constants, added to what is given."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        for number, name in enumerate(("query", "key", "value")):
            self.register_buffer(name, buffer(1, 2, 4, 8, seed=number))

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return given + functional.scaled_dot_product_attention(
            self.query, self.key, self.value, dropout_p=self.dropout
        )


def computed(path: Path, given: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    runner = Interpreter(model_path=str(path), num_threads=1).get_signature_runner()
    return runner(given=given)["found"].ravel().astype(np.float64)


def cosine(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float | None:
    if not np.isfinite(other).all():
        return None
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def left(dropout: float) -> list[str]:
    graph = simplified(Attended(dropout), [torch.zeros(1, 2, 4, 8)]).graph
    return [str(node.target) for node in graph.nodes if node.op == "call_function"]


def main() -> None:
    folder = Path(sys.argv[1])
    source, kept, bare = (folder / f"{name}.tflite" for name in ("float", "kept", "bare"))
    example = {"given": torch.zeros(2, 8, _WIDTH)}
    front = Front(Added().eval(), example, ("found",), {})
    write_signatures({"serving_default": front}, ["given"], source)
    steps = steps_of(_PRECISION)
    round_file(source, kept, [*steps, *kept_steps(_PRECISION, read_tflite(source))])
    round_file(source, bare, steps)
    given = np.asarray(buffer(2, 8, _WIDTH, seed=3).numpy())
    wanted = computed(source, given)
    found = {
        "products": len(constant_products(read_tflite(source))),
        "kept": cosine(wanted, computed(kept, given)),
        "bare": cosine(wanted, computed(bare, given)),
        "rounded": [
            sum(one.dtype == "int8" for one in read_tflite(path).graphs[0].tensors)
            for path in (kept, bare)
        ],
        "left": {str(dropout): left(dropout) for dropout in (0.0, 0.5)},
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
