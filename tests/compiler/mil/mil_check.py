"""Converts rows, saves and loads them, runs them; inside the toolchain `coreml`.

`mil_check.py GROUP RESULTS` writes one JSON object: what each row came to.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Any

import coremltools as ct
import mil_recurrent
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from coremltools.converters.mil import Builder as mb  # noqa: N813
from coremltools.converters.mil.mil import types
from mil_rows import Row
from torch import nn

from edgeward.compiler.mil.program import Program, load_program

_NAMES = ("x", "y", "z")
# Two pairs that overlap by a half, of centre and size.
BOXES = ((0, 0, 2, 2), (0, 1, 2, 2), (9, 9, 2, 2), (9, 8, 2, 2))


def weights(shape: tuple[int, ...]) -> np.ndarray:
    """Return weights that are numbers of float16."""
    return np.random.default_rng(5).normal(size=shape).astype(np.float16).astype(np.float32)


def sampled(x: torch.Tensor, rows: Any, columns: Any) -> torch.Tensor:
    """Return a picture (…, rows, columns) between its pixels, by numpy's interpolation."""
    found = x.double().numpy()
    for axis, places in ((-2, rows), (-1, columns)):
        at = np.arange(found.shape[axis])
        found = np.apply_along_axis(
            lambda line, at=at, places=places: np.interp(places, at, line), axis, found
        )
    return torch.from_numpy(found).float()


def chosen(scores: torch.Tensor) -> list[torch.Tensor]:
    """Return what is left of BOXES: the likelier of each pair, the likeliest first."""
    best = scores.amax(0)
    kept = sorted(
        (max(pair, key=best.__getitem__) for pair in ((0, 1), (2, 3))), key=lambda at: -best[at]
    )
    boxes = torch.tensor([*(BOXES[at] for at in kept), (0, 0, 0, 0)]).T.float()
    left = torch.cat([scores[:, kept], torch.zeros(2, 1)], 1)
    return [boxes[None], left[None], torch.tensor([[*kept, -1]], dtype=torch.int32)]


_SCOPE = {
    "torch": torch,
    "F": F,
    "nn": nn,
    "mb": mb,
    "np": np,
    "W": weights,
    "T": lambda shape: torch.from_numpy(weights(shape)),
    "BOXES": BOXES,
    "sampled": sampled,
    "chosen": chosen,
    "recurrent": mil_recurrent,
}


class Expression(nn.Module):
    """A module that computes an expression of its inputs."""

    def __init__(self, row: Row) -> None:
        super().__init__()
        self._code = compile(row.given, row.name, "eval")
        if row.parts:
            self.a = eval(row.parts, dict(_SCOPE))  # noqa: S307

    def forward(self, *tensors: torch.Tensor) -> Any:
        """Return what the expression gives."""
        scope = {**_SCOPE, **dict(zip(_NAMES, tensors, strict=False)), "self": self}
        return eval(self._code, scope)  # noqa: S307


def inputs_of(row: Row) -> list[torch.Tensor]:
    """Return tensors of a row's kinds and shapes; floats are numbers of float16."""
    generator = torch.Generator().manual_seed(7)
    return [_input(one.split(), generator) for one in row.inputs.split(";")]


def _input(words: list[str], generator: torch.Generator) -> torch.Tensor:
    kind, shape = words[0], [int(one) for one in words[1:]]
    if kind[0] == "i":
        high, _, more = kind[1:].partition("+")
        found = torch.randint(0, int(high), shape, generator=generator, dtype=torch.int32)
        return found + int(more or 0)
    if kind[0] == "d":
        rows = [torch.randperm(int(kind[1:]), generator=generator) for _ in range(8)]
        count = int(np.prod(shape[:-1], dtype=int))
        return torch.stack([one[: shape[-1]] for one in rows[:count]]).reshape(shape).int()
    found = torch.randn(shape, generator=generator)
    if kind == "p":
        found = found.abs() + 0.5
    if kind == "u":
        found = torch.rand(shape, generator=generator) * 1.8 - 0.9
    return found.half().float()


def target(opset: str) -> Any:
    """Return coremltools' name of an opset."""
    return getattr(ct.target, opset)


def converted(row: Row, tensors: list[torch.Tensor]) -> tuple[Any, torch.Tensor]:
    """Return a row's package, not saved yet, and what it has to give."""
    if row.wanted:
        return _built(row, tensors)
    module = Expression(row).eval()
    with torch.no_grad():
        for one in (*module.parameters(), *module.buffers()):
            if one.is_floating_point():
                one.copy_(one.half().float())
        wanted = module(*tensors)
    exported = torch.export.export(module, tuple(tensors), strict=False).run_decompositions({})
    made = ct.convert(exported, convert_to="mlprogram", minimum_deployment_target=target(row.opset))
    return made, wanted


def _built(row: Row, tensors: list[torch.Tensor]) -> tuple[Any, torch.Tensor]:
    specs = [
        mb.TensorSpec(tuple(one.shape), types.fp32 if one.is_floating_point() else types.int32)
        for one in tensors
    ]
    code = compile(row.given, row.name, "eval")
    names = _NAMES[: len(tensors)]

    def body(*given: Any) -> Any:
        scope = {**_SCOPE, **dict(zip(names, given, strict=True))}
        return eval(code, scope)  # noqa: S307

    # The builder reads the names of the inputs from the function's own.
    named = eval(f"lambda {', '.join(names)}: body({', '.join(names)})", {"body": body})  # noqa: S307
    program = mb.program(input_specs=specs, opset_version=target(row.opset))(named)
    made = ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=target(row.opset),
        pass_pipeline=ct.PassPipeline(["common::add_fp16_cast"]),
    )
    scope = {**_SCOPE, **dict(zip(names, tensors, strict=True))}
    return made, eval(row.wanted, scope)  # noqa: S307


def checked(row: Row, folder: Path) -> dict[str, Any]:
    """Return how far a row is from what it has to give, exact and rounded, and its operators."""
    torch.manual_seed(3)
    tensors = inputs_of(row)
    made, wanted = converted(row, tensors)
    path = folder / f"{row.opset}-{row.name.replace('/', '-')}.mlpackage"
    made.save(str(path))
    program = load_program(path)
    given = dict(zip(program.inputs, (one.numpy() for one in tensors), strict=True))
    return {
        "operators": sorted(program.operators()),
        "exact": distance(program, given, wanted, rounded=False),
        "rounded": distance(program, given, wanted, rounded=True),
        "overflows": len(program.overflows),
    }


def distance(program: Program, given: dict[str, Any], wanted: Any, *, rounded: bool) -> float:
    """Return the largest difference, relative to the largest above 1; infinite for a shape."""
    found = list(program.run(given, rounded=rounded).values())
    expected = list(wanted) if isinstance(wanted, (tuple, list)) else [wanted]
    if len(found) != len(expected):
        return float("inf")
    return max(_apart(one, other.numpy()) for one, other in zip(found, expected, strict=True))


def _apart(found: Any, wanted: Any) -> float:
    if found.shape != wanted.shape:
        return float("inf")
    wanted = wanted.astype(np.float64)
    return float(np.abs(found.astype(np.float64) - wanted).max() / max(np.abs(wanted).max(), 1.0))


def run_rows(rows: list[Row], folder: Path) -> dict[str, Any]:
    """Check every row; one that fails says so and stops no other."""
    found: dict[str, Any] = {}
    for row in rows:
        try:
            found[row.name] = checked(row, folder)
        except Exception:  # noqa: BLE001, PERF203
            found[row.name] = {"error": traceback.format_exc()[-1500:]}
    return found


def main() -> None:
    """Run a group and write what it came to."""
    from mil_rows_builder import BUILT
    from mil_rows_torch import TORCH

    group, results = sys.argv[1:3]
    rows = {**TORCH, **BUILT}[group]
    with tempfile.TemporaryDirectory() as folder:
        Path(results).write_text(json.dumps(run_rows(rows, Path(folder))), "utf-8")


if __name__ == "__main__":
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    main()
