"""Whole programs: states, overflow, control, functions, shapes, damage. In the toolchain `coreml`.

`mil_programs.py RESULTS` writes what each came to.
"""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import torch
from coremltools.converters.mil import Builder as mb  # noqa: N813
from torch import nn

from edgeward.compiler.mil.package import quiet
from edgeward.compiler.mil.program import load_program
from edgeward.errors import EdgewardError

_IOS = ct.target.iOS18


def _saved(module: nn.Module, args: Any, path: Path, **more: Any) -> Path:
    exported = torch.export.export(module.eval(), args, strict=False).run_decompositions({})
    made = ct.convert(exported, **{"minimum_deployment_target": _IOS, **more})
    made.save(str(path))
    return path


class Counting(nn.Module):
    """Adds what it is given to what it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return twice the sum so far."""
        self.seen.add_(x)
        return self.seen * 2


def states(folder: Path) -> dict[str, Any]:
    """Two states of one program know nothing of each other; a run without one begins at zero."""
    path = _saved(
        Counting(),
        (torch.zeros(2, 3),),
        folder / "states.mlpackage",
        inputs=[ct.TensorType(name="x", shape=(2, 3), dtype=np.float16)],
        states=[ct.StateType(ct.TensorType(shape=(2, 3), dtype=np.float16), name="seen")],
    )
    program = load_program(path)
    one, other = program.state(), program.state()
    x = np.full((2, 3), 1.5, np.float32)
    rows = [program.run({"x": x}, state=one) for _ in range(3)]
    again = program.run({"x": x}, state=other)
    alone = [program.run({"x": x}) for _ in range(2)]
    (out,) = program.outputs
    return {
        "names": list(program.states),
        "dtype": program.states["seen"].dtype,
        "firsts": [float(row[out][0, 0]) for row in rows],
        "other": float(again[out][0, 0]),
        "alone": [float(row[out][0, 0]) for row in alone],
        "kept": one.arrays()["seen"].tolist(),
        "operators": sorted(program.operators()),
    }


class SquareNorm(nn.Module):
    """RMSNorm as it is written: the square of what is large is no number of float16."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x by the root of its mean square."""
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class ScaledNorm(nn.Module):
    """The same, divided by the largest first."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x by the root of its mean square."""
        x = x / x.abs().amax(-1, keepdim=True)
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def overflow(folder: Path) -> dict[str, Any]:
    """653 squared is above float16's largest: exact runs are right, rounded ones say where."""
    x = torch.tensor([[653.0, 1.0, -2.0, 0.5]])
    found: dict[str, Any] = {}
    for name, module in (("plain", SquareNorm()), ("scaled", ScaledNorm())):
        program = load_program(_saved(module, (x,), folder / f"{name}.mlpackage"))
        ((given, _),) = program.inputs.items()
        wanted = module(x).numpy()
        for rounded in (False, True):
            (out,) = program.run({given: x.numpy()}, rounded=rounded).values()
            apart = float(np.abs(np.nan_to_num(out.astype(np.float64)) - wanted).max())
            told = [[one.operator, one.largest, one.elements] for one in program.overflows]
            found[f"{name} {'rounded' if rounded else 'exact'}"] = {
                "apart": apart,
                "dtype": str(out.dtype),
                "overflows": told,
            }
    return found


class Masked(nn.Module):
    """A mask of infinity, on purpose."""

    def forward(self, x: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
        """Return a softmax over what is shown."""
        return torch.softmax(x.masked_fill(shown < 0.5, float("-inf")), -1)


def infinite_mask(folder: Path) -> dict[str, Any]:
    """Infinity that a program means is no overflow."""
    x, shown = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 1.0, 0.0]])
    program = load_program(_saved(Masked(), (x, shown), folder / "masked.mlpackage"))
    given = dict(zip(program.inputs, (x.numpy(), shown.numpy()), strict=True))
    (out,) = program.run(given).values()
    wanted = Masked()(x, shown).numpy()
    return {"apart": float(np.abs(out - wanted).max()), "overflows": len(program.overflows)}


def wide_range(folder: Path) -> dict[str, Any]:
    """Small differences of large numbers are lost in float16, and only there."""

    class Difference(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x + 4096.0) - 4096.0

    x = torch.tensor([[0.5, 1.0, 1.5]])
    program = load_program(_saved(Difference(), (x,), folder / "difference.mlpackage"))
    ((given, _),) = program.inputs.items()
    return {
        ("rounded" if rounded else "exact"): next(
            iter(program.run({given: x.numpy()}, rounded=rounded).values())
        )
        .astype(float)
        .tolist()
        for rounded in (False, True)
    }


def shapes(folder: Path) -> dict[str, Any]:
    """Enumerated and ranged sizes: each runs, another is refused in words."""
    found: dict[str, Any] = {}
    kinds = {
        "enumerated": ct.EnumeratedShapes(shapes=[(2, 4), (5, 4)], default=(2, 4)),
        "ranged": ct.Shape(shape=(ct.RangeDim(1, 8, default=2), 4)),
    }
    module = nn.Linear(4, 3)
    for name, shape in kinds.items():
        traced = torch.jit.trace(module.eval(), torch.zeros(2, 4))
        made = ct.convert(
            traced,
            inputs=[ct.TensorType(name="x", shape=shape)],
            minimum_deployment_target=_IOS,
        )
        path = folder / f"{name}.mlpackage"
        made.save(str(path))
        program = load_program(path)
        port = program.inputs["x"]
        apart = 0.0
        for count in (2, 5):
            x = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
            (out,) = program.run({"x": x}, rounded=False).values()
            wanted = module(torch.from_numpy(x)).detach().numpy()
            apart = max(apart, float(np.abs(out - wanted).max()))
        found[name] = {
            "apart": apart,
            "shapes": [list(one) for one in port.shapes],
            "ranges": [list(one) for one in port.ranges],
            "refused": _refused(program.run, {"x": np.zeros((9, 4), np.float32)}),
        }
    return found


def functions(folder: Path) -> dict[str, Any]:
    """A package of two functions runs each by its name."""
    names = {"one": nn.Linear(4, 3), "other": nn.Linear(4, 3)}
    descriptor = ct.utils.MultiFunctionDescriptor()
    for name, module in names.items():
        path = _saved(module, (torch.zeros(2, 4),), folder / f"{name}.mlpackage")
        descriptor.add_function(str(path), "main", name)
    descriptor.default_function_name = "other"
    both = folder / "both.mlpackage"
    ct.utils.save_multifunction(descriptor, str(both))
    program = load_program(both)
    x = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    apart = {}
    for name, module in names.items():
        (given,) = program.inputs_of(name)
        (out,) = program.run({given: x}, function=name, rounded=False).values()
        wanted = module(torch.from_numpy(x)).detach().numpy()
        apart[name] = float(np.abs(out - wanted).max())
    return {"functions": sorted(program.functions), "default": program.default, "apart": apart}


def classifier(folder: Path) -> dict[str, Any]:
    """A classifier gives the name of its likeliest class."""
    module = nn.Sequential(nn.Linear(4, 3), nn.Softmax(-1)).eval()
    traced = torch.jit.trace(module, torch.zeros(1, 4))
    made = ct.convert(
        traced,
        inputs=[ct.TensorType(name="x", shape=(1, 4))],
        classifier_config=ct.ClassifierConfig(["cat", "dog", "owl"]),
        minimum_deployment_target=_IOS,
    )
    path = folder / "classifier.mlpackage"
    made.save(str(path))
    program = load_program(path)
    x = np.array([[1.0, -2.0, 0.5, 3.0]], np.float32)
    found = list(program.run({"x": x}, rounded=False).values())
    wanted = module(torch.from_numpy(x)).detach().numpy()[0]
    label = ["cat", "dog", "owl"][int(wanted.argmax())]
    return {
        "label": str(found[0]),
        "wanted": label,
        "apart": float(np.abs(found[1] - wanted).max()),
    }


def constant_cast(folder: Path) -> dict[str, Any]:
    """A weight kept in float16 for a computation in float32."""
    weights = np.array([[0.5, 1.25], [2.0, -3.0]], np.float16)

    @mb.program(input_specs=[mb.TensorSpec((2, 2))], opset_version=ct.target.iOS16)
    def program(x: Any) -> Any:
        return mb.add(x=x, y=mb.constexpr_cast(source_val=weights, output_dtype="fp32"))

    made = ct.convert(
        program,
        minimum_deployment_target=ct.target.iOS16,
        compute_precision=ct.precision.FLOAT32,
        pass_pipeline=ct.PassPipeline.EMPTY,
    )
    path = folder / "cast.mlpackage"
    made.save(str(path))
    loaded = load_program(path)
    (out,) = loaded.run({"x": np.ones((2, 2), np.float32)}).values()
    return {"operators": sorted(loaded.operators()), "out": out.tolist(), "dtype": str(out.dtype)}


def tracing(folder: Path) -> dict[str, Any]:
    """Every operator's output is told by its name, in order."""
    module = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    x = torch.ones(2, 4)
    program = load_program(_saved(module, (x,), folder / "traced.mlpackage"))
    told: list[tuple[str, float]] = []
    ((given, _),) = program.inputs.items()
    (out,) = program.run(
        {given: x.numpy()}, trace=lambda name, value: told.append((name, float(value.min())))
    ).values()
    return {
        "last": told[-1][0],
        "outputs": list(program.outputs),
        "count": len(told),
        "steps": sum(program.operators().values()),
        "least": told[-1][1],
        "out": float(out.min()),
    }


def refusals(folder: Path) -> dict[str, Any]:
    """What cannot be run is said in words, before it runs."""
    path = _saved(nn.Linear(4, 3), (torch.zeros(2, 4),), folder / "plain.mlpackage")
    program = load_program(path)
    ((given, _),) = program.inputs.items()
    x = np.zeros((2, 4), np.float32)
    found = {
        "lacking": _refused(lambda: program.run({})),
        "unknown input": _refused(lambda: program.run({given: x, "more": x})),
        "shape": _refused(lambda: program.run({given: np.zeros((2, 5), np.float32)})),
        "function": _refused(lambda: program.run({given: x}, function="nothing")),
        "nothing": _refused(lambda: load_program(folder / "nothing.mlpackage")),
    }
    model = next(path.rglob("*.mlmodel"))
    whole = model.read_bytes()
    spec = ct.proto.Model_pb2.Model.FromString(whole)
    block = next(iter(spec.mlProgram.functions["main"].block_specializations.values()))
    next(one for one in block.operations if one.type == "linear").type = "dream_up"
    model.write_bytes(spec.SerializeToString())
    found["operator"] = _refused(lambda: load_program(path))
    model.write_bytes(whole[: len(whole) // 2])
    found["cut"] = _refused(lambda: load_program(path))
    model.write_bytes(whole)
    weights = next(path.rglob("weight.bin"))
    stored = weights.read_bytes()
    weights.write_bytes(stored[: len(stored) // 2])
    found["short weights"] = _refused(lambda: load_program(path))
    weights.unlink()
    found["weights"] = _refused(lambda: load_program(path))
    (path / "Manifest.json").write_text("{}")
    found["manifest"] = _refused(lambda: load_program(path))
    return found


def _refused(call: Any, *given: Any) -> list[str]:
    try:
        call(*given)
    except EdgewardError as error:
        return [type(error).__name__, str(error)]
    return []


CHECKS = (
    states,
    overflow,
    infinite_mask,
    wide_range,
    shapes,
    functions,
    classifier,
    constant_cast,
    tracing,
    refusals,
)


def main() -> None:
    """Run every check; one that fails stops no other."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found: dict[str, Any] = {}
    with quiet(), tempfile.TemporaryDirectory() as folder:
        for check in CHECKS:
            try:
                found[check.__name__] = check(Path(folder))
            except Exception:  # noqa: BLE001, PERF203
                found[check.__name__] = {"error": traceback.format_exc()[-2000:]}
    Path(sys.argv[1]).write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    main()
