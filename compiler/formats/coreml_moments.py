"""What flows into a model's products on calibration samples, by the weights it meets.

The original runs in torch; a weight of the program is found again by its numbers in float16.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.compiler.modalities.base import open_modality
from edgeward.compiler.reference_model import load_tokenizer
from edgeward.compiler.sequence_sources import open_sources
from edgeward.compiler.tasks import TaskSpec

from .onnx_samples import token_windows

_WIDEST = 8192
_WRITTEN = 32
_KEPT_VALUES = 1 << 14
_SHARES = 24
Sample = dict[str, Any]


@dataclass(slots=True)
class Flow:
    """What flowed into one product: sums of squares, and some of the values."""

    module: Any
    moments: Any = None
    peak: float = 0.0
    values: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, rows: Any) -> None:
        """Count inputs (rows, columns)."""
        found = rows.T @ rows
        self.moments = found if self.moments is None else self.moments + found
        self.peak = max(self.peak, float(rows.abs().max()))
        flat = rows.flatten()
        self.values.append(np.asarray(flat[:: max(1, len(flat) // _KEPT_VALUES)].numpy()))

    def step(self) -> float:
        """The step of an int8 grid for the inputs with the least squared error."""
        values = np.concatenate(self.values)
        shares = np.linspace(0.3, 1.0, _SHARES)
        steps = [self.peak * share / 127 for share in shares if self.peak]
        errors = [
            float(np.mean((np.clip(np.round(values / s), -127, 127) * s - values) ** 2))
            for s in steps
        ]
        return steps[int(np.argmin(errors))] if steps else 1.0


def key_of(matrix: NDArray[Any]) -> str:
    """Return what a weight is known by: its numbers in float16, (rows, columns)."""
    half = np.ascontiguousarray(matrix, np.float16)
    return hashlib.sha256(half.tobytes() + str(half.shape).encode()).hexdigest()


def matrix_of(module: Any) -> Any:
    """Return a product's weights as (outputs, inputs), None for what is none."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    if isinstance(module, nn.Linear):
        return module.weight
    if isinstance(module, Conv1D):
        return module.weight.T
    if isinstance(module, nn.Conv2d) and module.groups == 1 and module.padding_mode == "zeros":
        return module.weight.flatten(1)
    return None


def samples_of(
    spec: TaskSpec, folder: Path, model: Any, texts: Sequence[Any], files: Sequence[Any] = ()
) -> list[Sample]:
    """Return the calibration samples as the original's inputs; of `files` where those are given."""
    import torch

    if spec.name == "text-generation":
        windows = token_windows(folder, load_tokenizer(folder), texts)
        return [{name: torch.from_numpy(ids) for name, ids in one.items()} for one in windows]
    if spec.generates:
        return _written(spec, folder, model, files)
    modality = open_modality(spec, folder, model)
    made = [modality.from_file(one.name, one.content) for one in files]
    cases = [one for one in made if one is not None] or modality.calibration(texts)
    return [dict(one.tensors) for one in cases]


def _written(spec: TaskSpec, folder: Path, model: Any, files: Sequence[Any]) -> list[Sample]:
    """What an encoder reads, the files or random inputs, and what the model itself writes of it."""
    import torch

    sources = open_sources(spec.modality, folder, model)
    cases = sources.from_files(files) or sources.untraced(0)
    found = []
    for case in cases:
        with torch.inference_mode():
            ids = model.generate(
                **case.tensors, num_beams=1, do_sample=False, max_new_tokens=_WRITTEN
            )
        found.append({**case.tensors, "decoder_input_ids": ids})
    return found


def flows_of(model: Any, samples: Sequence[Sample]) -> dict[str, Flow]:
    """Run the original on samples; what flowed into each product, by its weights' key."""
    import torch

    found: dict[str, Flow] = {}
    with _watched(model, found), torch.inference_mode():
        for sample in samples:
            model(**sample)
    return {key: flow for key, flow in found.items() if flow.moments is not None}


@contextmanager
def _watched(model: Any, found: dict[str, Flow]) -> Iterator[None]:
    handles = []
    for module in model.modules():
        matrix = matrix_of(module)
        if matrix is None or matrix.shape[1] > _WIDEST:
            continue
        flow = found.setdefault(key_of(matrix.detach().numpy()), Flow(module))
        handles.append(module.register_forward_pre_hook(_counting(flow)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _counting(flow: Flow) -> Any:
    def hook(module: Any, given: tuple[Any, ...]) -> None:
        flow.add(_rows(module, given[0].detach().float()))

    return hook


def _rows(module: Any, given: Any) -> Any:
    """What a product multiplies with its weights, (rows, columns)."""
    from torch import nn

    if isinstance(module, nn.Conv2d):
        apart = nn.functional.unfold(
            given, module.kernel_size, module.dilation, module.padding, module.stride
        )
        return apart.transpose(1, 2).reshape(-1, apart.shape[1])
    return given.reshape(-1, given.shape[-1])


def sensitivity(
    flow: Flow,
    rounded: NDArray[np.float32],
    model: Any,
    samples: Sequence[Sample],
    exact: Sequence[Any],
) -> float:
    """Return the outputs' relative squared error where this one weight is rounded."""
    import torch

    weight = flow.module.weight
    kept = weight.data
    matrix = torch.from_numpy(np.ascontiguousarray(rounded))
    turned = matrix.T if matrix_of(flow.module).shape != kept.flatten(1).shape else matrix
    weight.data = turned.reshape(kept.shape).contiguous()
    try:
        found = outputs_of(model, samples)
    finally:
        weight.data = kept
    pairs = list(zip(exact, found, strict=True))
    return float(torch.stack([((a - b) ** 2).sum() / (a**2).sum() for a, b in pairs]).mean())


def outputs_of(model: Any, samples: Sequence[Sample]) -> list[Any]:
    """Return the first output of each sample."""
    import torch

    with torch.inference_mode():
        return [model(**sample, return_dict=True)[0] for sample in samples]


Flows = Mapping[str, Flow]
