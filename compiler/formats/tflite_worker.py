"""The TFLite conversion, run inside the `litert` toolchain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from edgeward.compiler.mobile.front import Front, open_front
from edgeward.compiler.mobile.proved import prove_front
from edgeward.compiler.modalities.base import open_modality
from edgeward.compiler.preprocessors import complete_settings
from edgeward.compiler.reference_model import load_another, load_tokenizer
from edgeward.compiler.stage_context import StageContext
from edgeward.compiler.tasks import task_spec
from edgeward.errors import StageError
from edgeward.runtimes.engines.litert_file import FileTensor, TFLiteFile, read_tflite
from edgeward.runtimes.tasks.tokens import TextTokenizer

from .onnx_assets import copy_assets
from .tflite_mediapipe import open_task_front
from .tflite_options import MEDIAPIPE_FILE

FILE = "model.tflite"
_IDS = "input_ids"


class Traced(Protocol):
    """A front end as it is converted: a module, its examples by name, its outputs' names."""

    @property
    def module(self) -> Any:
        """What is traced."""

    @property
    def inputs(self) -> Mapping[str, Any]:
        """Example tensors in the order of forward's arguments."""

    @property
    def outputs(self) -> Sequence[str]:
        """The names of what forward returns."""


def convert(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write `model.tflite` with a signature for each of `signatures`, and the `assets/`."""
    folder, spec = context.inputs["source"], task_spec(params["task"])
    named: Mapping[str, Mapping[str, int]] = params["signatures"]
    context.progress(0.05, "loading the model")
    model = load_another(folder, spec.auto_class)
    taken = list(open_modality(spec, folder, model).axes())
    fronts = {name: open_front(spec.name, folder, model, sizes) for name, sizes in named.items()}
    first = next(iter(fronts.values()))
    inputs = [name for name in first.inputs if name in taken]
    context.progress(0.1, "holding it against the original")
    proofs = [prove_front(one, spec.name, folder, named[name]) for name, one in fronts.items()]
    context.progress(0.2, "converting")
    path = context.out / FILE
    write_signatures(fronts, inputs, path)
    tokenizer = load_tokenizer(folder) if spec.reads_text else None
    assets = context.out / "assets"
    copy_assets(folder, assets, params["files"], tokenizer)
    if spec.modality in ("image", "image-text"):
        complete_settings(folder, assets)
    if params["mediapipe"]:
        context.progress(0.7, "converting for MediaPipe")
        sizes = next(iter(named.values()))
        task = open_task_front(spec, folder, assets, model, sizes)
        write_signatures({"serving_default": task}, list(task.inputs), context.out / MEDIAPIPE_FILE)
    told = read_tflite(path)
    return {
        **signature(told, first),
        "padding": _padding(inputs, assets, first.padding),
        "front_relative_difference": max(one["front_relative_difference"] for one in proofs),
        "summary": f"{type(model).__name__}, {_words(named)}: "
        f"{sum(len(graph.operators) for graph in told.graphs)} operators, "
        f"{path.stat().st_size / 2**20:.1f} MiB",
    }


def write_signatures(fronts: Mapping[str, Traced], inputs: Sequence[str], path: Path) -> None:
    """Convert modules that share their weights into one file; StageError where it is refused.

    Inputs that a device does not make (`inputs` are those that it does) stay as their examples.
    """
    import litert_torch
    import torch

    converter: Any = litert_torch._convert.interface.Converter()
    for name, front in fronts.items():
        given = {plain(key): value for key, value in front.inputs.items() if key in inputs}
        converter.signature(name, named_module(front, inputs), sample_kwargs=given)
    try:
        with torch.inference_mode(mode=False), torch.no_grad():
            converter.convert().export(str(path))
    except (RuntimeError, ValueError, TypeError, NotImplementedError, AssertionError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        why = (lines or [type(error).__name__])[0][:500]
        raise StageError("litert-torch does not convert this model", why=why) from error


def named_module(front: Traced, inputs: Sequence[str]) -> Any:
    """Return a module that takes and gives tensors by name, which become the signature's."""
    import torch

    class Named(torch.nn.Module):  # type: ignore[misc]  # torch is typed in its room alone
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.order = front.module, tuple(front.inputs)
            self.held = {key: value for key, value in front.inputs.items() if key not in inputs}
            for key, value in self.held.items():
                self.register_buffer(f"held_{key}", value)

        def forward(self, **given: Any) -> dict[str, Any]:
            held = {key: getattr(self, f"held_{key}") for key in self.held}
            found = self.inner(*({**given, **held}[plain(key)] for key in self.order))
            return dict(zip(map(plain, front.outputs), found, strict=True))

    named = Named()
    # An exported module within takes no eval(), and needs none.
    named.training = False
    return named


def plain(name: str) -> str:
    """Return a name as Python can have one: what is traced takes its inputs by it."""
    return name.replace(".", "_")


def signature(told: TFLiteFile, front: Front) -> dict[str, Any]:
    """Return inputs and outputs as the manifest lists them, by the first signature."""
    first = told.signatures[0]
    tensors = told.graphs[first.graph].tensors

    def listed(named: Mapping[str, int], order: Sequence[str]) -> list[dict[str, Any]]:
        return [_spec(name, tensors[named[name]], front) for name in order if name in named]

    return {
        "inputs": listed(first.inputs, list(front.inputs)),
        "outputs": listed(first.outputs, front.outputs),
    }


def _spec(name: str, tensor: FileTensor, front: Front) -> dict[str, Any]:
    axes = front.axes.get(name, {})
    shape = [axes.get(place, length) for place, length in enumerate(tensor.shape)]
    return {"name": name, "dtype": tensor.dtype, "shape": shape}


def _padding(inputs: Sequence[str], assets: Path, own: Mapping[str, int]) -> dict[str, int]:
    if _IDS not in inputs:
        return dict(own)
    return {_IDS: TextTokenizer(assets).padding_id, **own}


def _words(named: Mapping[str, Mapping[str, int]]) -> str:
    return "; ".join(
        ", ".join(f"{axis} {size}" for axis, size in sizes.items()) for sizes in named.values()
    )
