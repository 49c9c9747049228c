"""Holds a package against the original before anything else, and writes what a device is held to.

Computed exactly, the float package is what was converted: a difference beyond its weights' own
rounding is a wrong graph. Computed with rounding, the finished package gives the outputs that
`verify_on_device.py` compares Core ML's with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.compiler.mil.program import Port
from edgeward.compiler.mil_engine import MilSession, open_mode
from edgeward.compiler.modalities.base import open_modality
from edgeward.compiler.reference_model import load_model
from edgeward.compiler.stage_context import StageContext
from edgeward.compiler.tasks import TaskSpec, task_spec
from edgeward.runtimes.engines.base import EngineOptions
from edgeward.runtimes.engines.bucketed import Listed, listed, open_buckets
from edgeward.runtimes.engines.coreml_slots import IDS

from .coreml_cases import Arrays, Cases
from .coreml_graph_written import Written, exact_kl, written_cases

PACKAGE = "model.mlpackage"
_CASES = 3


@dataclass(frozen=True, slots=True)
class _Check:
    """The original, the float package that was converted, and the one that is finished."""

    context: StageContext
    texts: list[str]
    spec: TaskSpec
    model: Any
    exact: Path
    finished: Path
    parts: Mapping[str, Path]

    def opened(self) -> MilSession:
        """Open the finished package with rounding."""
        return open_mode(self.finished, EngineOptions(threads=1, parts=self.parts), rounded=True)

    def opened_exactly(self) -> MilSession:
        """Open the float package, which has no chunks, without rounding."""
        beside = {role: self.exact.with_name(f"{role}.mlpackage") for role in self.parts}
        parts = {role: place for role, place in beside.items() if place.exists()}
        return open_mode(self.exact, EngineOptions(threads=1, parts=parts), rounded=False)

    @property
    def folder(self) -> Path:
        """The original's."""
        return self.context.inputs["source"]


def check_graph(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Compare the float package with the original; write `on_device.npz` of the finished one."""
    spec = task_spec(params["task"])
    finished = context.inputs["model"] / PACKAGE
    check = _Check(
        context,
        list(params["texts"]),
        spec,
        load_model(context.inputs["source"], spec.auto_class),
        context.inputs["float"] / PACKAGE,
        finished,
        {role: finished.with_name(f"{role}.mlpackage") for role in params["parts"]},
    )
    context.progress(0.1, "the graph, exactly")
    metrics = _written(check) if spec.generates else _tensors(check, listed(params["shapes"]))
    for name, value in metrics.items():
        context.metric(name, value)
    return {"metrics": metrics, "summary": ", ".join(f"{k} {v:.6g}" for k, v in metrics.items())}


def _tensors(check: _Check, told: Listed) -> dict[str, float]:
    import torch

    modality = open_modality(check.spec, check.folder, check.model)
    modality.fit({axis: [size] for axis, size in told.buckets[0].sizes.items()})
    cases = modality.calibration(check.texts)[:_CASES]
    wanted = []
    with torch.inference_mode():
        for case in cases:
            given = check.model(**case.tensors, return_dict=True)
            wanted.append({name: getattr(given, name).numpy() for name in check.spec.outputs})
    session = open_buckets(_Exact(), check.exact.parent, told, EngineOptions(threads=1))
    found = []
    for case in cases:
        inputs = {name: tensor.numpy() for name, tensor in case.tensors.items()}
        lacking = {name: _lacking(name, inputs) for name in session.inputs if name not in inputs}
        known = {name: value for name, value in inputs.items() if name in session.inputs}
        found.append(session.run({**known, **lacking}))
    check.context.progress(0.7, "what a device is held to")
    _write_tensors(check)
    return _agreement(wanted, found)


class _Exact:
    """The evaluator without rounding, as an engine."""

    def open_model(self, path: Path, options: EngineOptions) -> MilSession:
        return open_mode(path, options, rounded=False)


def _lacking(name: str, inputs: Arrays) -> NDArray[Any]:
    """What the original counts by itself: token types are zeros, a mask is ones."""
    like = next(iter(inputs.values()))
    return np.ones_like(like) if name.endswith("mask") else np.zeros_like(like)


def _agreement(wanted: list[Arrays], found: list[Arrays]) -> dict[str, float]:
    least, largest = 1.0, 0.0
    for one, other in zip(wanted, found, strict=True):
        for name, value in one.items():
            a, b = (np.asarray(x, np.float64) for x in (value, other[name]))
            sizes = float(np.linalg.norm(a) * np.linalg.norm(b))
            least = min(least, float((a * b).sum() / sizes) if sizes else 1.0)
            largest = max(largest, float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-12)))
    return {"graph_cosine_min": least, "graph_relative_difference": largest}


def _write_tensors(check: _Check) -> None:
    session = check.opened()
    program = session.programs[0]
    function = program.default if len(program.functions) > 1 else ""
    ports = program.inputs_of(function or program.default)
    noise = np.random.default_rng(0)
    cases = Cases()
    for number in range(_CASES):
        given = {name: _example(port, noise) for name, port in ports.items()}
        cases.hold((number, 0, function), given, session.run(given))
    cases.save(check.context.out)


def _example(port: Port, noise: np.random.Generator) -> NDArray[Any]:
    """Random tokens or values, of a text that fills its length."""
    shape = tuple(int(size) for size in port.shape)
    if port.dtype.startswith("fp"):
        return noise.standard_normal(shape).astype(np.float32)
    if port.name == IDS:
        return noise.integers(5, 200, shape, dtype=np.int32)
    return np.full(shape, int(port.name.endswith("mask")), np.int32)


def _written(check: _Check) -> dict[str, float]:
    written = Written(check.spec, check.folder, check.model, check.texts)
    kl = exact_kl(written, check.opened_exactly())
    check.context.progress(0.7, "what a device is held to")
    written_cases(written, check.opened()).save(check.context.out)
    return {"graph_kl_mean": kl}
