"""The proof of a front end: the untouched Hugging Face model, before anything is converted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeward.compiler.modalities.base import Given, open_modality
from edgeward.compiler.reference_model import load_another
from edgeward.compiler.tasks import task_spec
from edgeward.compiler.texts import proof_texts
from edgeward.errors import StageError
from edgeward.runtimes.engines.base import Tensor
from edgeward.runtimes.proof.compare import relative_difference

from .front import Front

# Both are float32; sums are taken in another order.
LARGEST_DIFFERENCE = 1e-4
_MASK = "attention_mask"
_ROWS = ("batch", "texts", "images")


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a front end's inputs are called and how large they are."""

    front: Front
    sizes: Mapping[str, int]

    def holds(self, tensors: Mapping[str, torch.Tensor]) -> bool:
        """Whether a case fits: rows and tokens up to the size, all else of exactly the size."""
        return all(
            tensors[name].ndim == wanted.ndim
            and all(self._fits(name, at, tensors) for at in range(wanted.ndim))
            for name, wanted in self.front.inputs.items()
            if name in tensors
        )

    def _fits(self, name: str, at: int, tensors: Mapping[str, torch.Tensor]) -> bool:
        size, wanted = tensors[name].shape[at], self.front.inputs[name].shape[at]
        axis = self.front.axes.get(name, {}).get(at)
        grows = axis in _ROWS or (axis == "sequence" and _MASK in tensors)
        return size <= wanted if grows else size == wanted

    def filled(self, tensors: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
        """Return every input at its full size, in the front end's order."""
        return [self._filled(name, tensors) for name in self.front.inputs]

    def _filled(self, name: str, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        wanted = self.front.inputs[name]
        given = tensors.get(name)
        if given is None and name == _MASK:
            given = torch.ones_like(tensors["input_ids"])
        filled = torch.full_like(wanted, self.front.padding.get(name, 0))
        if given is not None:
            filled[tuple(slice(0, size) for size in given.shape)] = given.to(wanted.dtype)
        return filled

    def cut(self, name: str, output: torch.Tensor, tensors: Mapping[str, torch.Tensor]) -> Tensor:
        """Return an output without the rows and tokens that only fill it."""
        held = {
            axis: tensors[given].shape[at]
            for given, named in self.front.axes.items()
            if given in tensors
            for at, axis in named.items()
        }
        for at, axis in self.front.axes.get(name, {}).items():
            output = output.narrow(at, 0, held.get(axis, output.shape[at]))
        return np.asarray(output.float().numpy())


def prove_front(
    front: Front, task: str, folder: Path, sizes: Mapping[str, int]
) -> dict[str, float]:
    """Compare a front end with the original on the golden cases, padded to the sizes, and others.

    The others are random, with hidden tokens where there are several rows. Returns the largest
    difference over the outputs' deviation, and how many cases there were. Raises StageError where
    the difference is above 1e-4, or nothing fits the sizes.
    """
    spec = task_spec(task)
    model = load_another(folder, spec.auto_class)
    modality = open_modality(spec, folder, model)
    modality.fit({axis: (size,) for axis, size in sizes.items()})
    shape = _Shape(front, sizes)
    worst, number = 0.0, 0
    for case in _cases(modality.golden(proof_texts().golden), modality.untraced(0)):
        if not shape.holds(case.tensors):
            continue
        number += 1
        for name, wanted, found in _compared(shape, model, case):
            difference = relative_difference(wanted, found)
            worst = max(worst, difference)
            if not difference <= LARGEST_DIFFERENCE:
                raise StageError(
                    f"The front end of {model.config.model_type} is not the model: {name}",
                    why=f"{case.name}: {difference:.1e} of its deviation, at most "
                    f"{LARGEST_DIFFERENCE:.0e}",
                )
    if not number:
        raise StageError(
            "No case fits the front end's sizes",
            why=", ".join(f"{axis} {size}" for axis, size in sizes.items()),
        )
    return {"front_relative_difference": worst, "front_cases": float(number)}


def _cases(*given: list[Given]) -> Iterator[Given]:
    for cases in given:
        yield from cases


def _compared(shape: _Shape, model: Any, case: Given) -> Iterator[tuple[str, Tensor, Tensor]]:
    with torch.inference_mode():
        wanted = model(**case.tensors)
    with torch.no_grad():
        found = shape.front.module(*shape.filled(case.tensors))
    for name, output in zip(shape.front.outputs, found, strict=True):
        right = np.asarray(wanted[name].float().numpy())
        mine = shape.cut(name, output, case.tensors)
        by_token = shape.front.axes.get(name, {}).get(1) == "sequence"
        if by_token and _MASK in case.tensors and mine.shape == right.shape:
            shown = case.tensors[_MASK].numpy().astype(bool)
            right, mine = right[shown], mine[shown]
        yield name, right, mine
