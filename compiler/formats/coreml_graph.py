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
from edgeward.compiler.mil_engine import IDS, LOGITS, POSITION, MilSession, open_mode
from edgeward.compiler.modalities.base import open_modality
from edgeward.compiler.reference_model import load_model
from edgeward.compiler.stage_context import StageContext
from edgeward.compiler.tasks import TaskSpec, task_spec
from edgeward.errors import StageError
from edgeward.runtimes.engines.base import EngineOptions
from edgeward.runtimes.engines.bucketed import Listed, listed, open_buckets
from edgeward.runtimes.tasks.slots import SlottedDecoder, SlottedEngine, slots_of

from .coreml_moments import samples_of

CASES, PACKAGE = "on_device.npz", "model.mlpackage"
_CASES, _TOKENS = 3, 40
_MOST_NUMBERS = 1 << 18
Arrays = dict[str, NDArray[Any]]


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
    metrics = _texts(check) if spec.generates else _tensors(check, listed(params["shapes"]))
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
    held: Arrays = {}
    for number in range(_CASES):
        given = {name: _example(port, noise) for name, port in ports.items()}
        _hold(held, (number, 0, function), given, session.run(given))
    _save(check, held)


def _example(port: Port, noise: np.random.Generator) -> NDArray[Any]:
    """Random tokens or values, of a text that fills its length."""
    shape = tuple(int(size) for size in port.shape)
    if port.dtype.startswith("fp"):
        return noise.standard_normal(shape).astype(np.float32)
    if port.name == IDS:
        return noise.integers(5, 200, shape, dtype=np.int32)
    return np.full(shape, int(port.name.endswith("mask")), np.int32)


def _hold(held: Arrays, place: tuple[int, int, str], given: Arrays, found: Arrays) -> None:
    """Keep the call at a case, a number and a function; of outputs that are large, the last row."""
    start = "/".join(map(str, place))
    for name, value in given.items():
        held[f"{start}/in/{name}"] = value
    for name, value in found.items():
        large = value.ndim > 1 and value.size > _MOST_NUMBERS
        held[f"{start}/out/{name}"] = (value[:, -1:] if large else value).astype(np.float32)


def _save(check: _Check, held: Arrays) -> None:
    arrays: dict[str, Any] = {**held}
    np.savez_compressed(check.context.out / CASES, **arrays)


def _texts(check: _Check) -> dict[str, float]:
    import torch

    found = samples_of(check.spec, check.folder, check.model, check.texts)[0]["input_ids"]
    ids = [int(one) for one in found[0, :_TOKENS]]
    with torch.inference_mode():
        wanted = check.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    logits = SlottedDecoder(_slots(_Exact().open_model(check.exact, EngineOptions(threads=1))))
    got = torch.from_numpy(logits.start().logits(ids)).double().log_softmax(-1)
    kl = float((wanted.exp() * (wanted - got)).sum(-1).mean())
    check.context.progress(0.7, "what a device is held to")
    _write_texts(check, ids)
    return {"graph_kl_mean": max(kl, 0.0)}


def _write_texts(check: _Check, ids: list[int]) -> None:
    """One text: a block of the prompt, then two tokens after it."""
    session = check.opened()
    slots, program = _slots(session), session.programs[0]
    named = {int(str(program.inputs_of(n)[IDS].shape[1])): n for n in program.functions}
    cache, position = slots.fresh({}), 0
    held: Arrays = {}
    for call, size in enumerate((max(slots.steps), 1, 1)):
        tokens = np.array([[ids[(position + n) % len(ids)] for n in range(size)]], np.int32)
        logits = slots.call(size, tokens, position, cache)
        given = {IDS: tokens, POSITION: np.array([position], np.int32)}
        function = named[size] if len(named) > 1 else ""
        _hold(held, (0, call, function), given, {LOGITS: logits})
        position += size
    _save(check, held)


def _slots(session: MilSession) -> SlottedEngine:
    found = slots_of(session)
    if found is None:
        raise StageError("The package has no states", why="a text generator's has")
    return found
