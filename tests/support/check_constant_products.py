"""What is made of products with constants; run with the `litert` toolchain's Python.

usage: check_constant_products.py FOLDER. Prints JSON: for a product of two constants, and of one
on the left, how many are left in float by rule, and the cosine of the rounded file with the rule
and without it (null where it is no number or the file is refused); and the operators that are left
of attention over constants without dropout and with it; and of two layers in blocks of 4 bits the
type of each one's weights by the length of their rows, with the cosine of the file.
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
from edgeward.compiler.formats.tflite_rules import float_products
from edgeward.compiler.formats.tflite_worker import write_signatures
from edgeward.compiler.mobile.front import Front
from edgeward.compiler.mobile.graph import simplified
from edgeward.runtimes.engines.litert_file import read_tflite

_PRECISION, _BLOCKS, _WIDTH = "int8-dynamic", "int4-weights", 32


def buffer(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Added(nn.Module):
    """A layer of what is given, and a product with a constant on its left."""

    def __init__(self, *, alone: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(_WIDTH, _WIDTH)
        self.layer.weight.data = buffer(_WIDTH, _WIDTH, seed=2)
        self.alone = alone
        self.register_buffer("one", buffer(2, 8, 8, seed=0))
        self.register_buffer("other", buffer(2, 8, _WIDTH, seed=1))

    def forward(self, given: torch.Tensor) -> tuple[torch.Tensor]:
        made = self.layer(given)
        return (made + torch.matmul(self.one, self.other if self.alone else made),)


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


class Narrow(nn.Module):
    """A layer whose rows a block of 32 divides, and one whose rows none does."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Linear(64, 48), nn.Linear(48, _WIDTH)
        self.wide.weight.data = buffer(48, 64, seed=4)
        # What padding leaves in real models: XNNPACK takes no scale of zero.
        self.wide.weight.data[5] = 0
        self.narrow.weight.data = buffer(_WIDTH, 48, seed=5)

    def forward(self, given: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.narrow(torch.tanh(self.wide(given))),)


def in_blocks(folder: Path) -> dict[str, Any]:
    """Round the two layers, as the format does."""
    source, rounded = (folder / f"narrow.{kind}.tflite" for kind in ("float", "rounded"))
    front = Front(Narrow().eval(), {"given": torch.zeros(2, 8, 64)}, ("found",), {})
    write_signatures({"serving_default": front}, ["given"], source)
    given = np.asarray(buffer(2, 8, 64, seed=6).numpy())
    wanted, told = computed(source, given), read_tflite(source)
    round_file(source, rounded, [*steps_of(_BLOCKS), *kept_steps(_BLOCKS, told)])
    weights = [one for one in read_tflite(rounded).graphs[0].tensors if one.size > 1000]
    return {
        "types": {str(one.shape[-1]): one.dtype for one in weights},
        "cosine": cosine(wanted, computed(rounded, given)),
    }


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


def held(folder: Path, name: str, *, alone: bool) -> dict[str, Any]:
    source, rounded = (folder / f"{name}.{kind}.tflite" for kind in ("float", "rounded"))
    example = {"given": torch.zeros(2, 8, _WIDTH)}
    front = Front(Added(alone=alone).eval(), example, ("found",), {})
    write_signatures({"serving_default": front}, ["given"], source)
    given = np.asarray(buffer(2, 8, _WIDTH, seed=3).numpy())
    wanted, told = computed(source, given), read_tflite(source)
    steps, kept = steps_of(_PRECISION), kept_steps(_PRECISION, told)
    found: dict[str, Any] = {"kept": len(float_products(told))}
    for key, added in (("with", kept), ("without", [])):
        round_file(source, rounded, [*steps, *added])
        try:
            found[key] = cosine(wanted, computed(rounded, given))
        except RuntimeError:
            found[key] = None
    return found


def main() -> None:
    folder = Path(sys.argv[1])
    found = {
        "two": held(folder, "two", alone=True),
        "left": held(folder, "left", alone=False),
        "blocks": in_blocks(folder),
        "attended": {str(dropout): left(dropout) for dropout in (0.0, 0.5)},
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
