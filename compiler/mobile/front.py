"""A model as torch.export gets it for a mobile engine: fixed shapes, plain tensors, float masks.

What a family's file gives is a module whose forward takes positional tensors: ids and masks int32,
everything else float32. Inside, the mask becomes additive floats, position and type ids are
explicit, norms hold in float16. It computes what the Hugging Face model computes
(`proved.py` holds it against that before anything is converted).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from edgeward.compiler.tasks import TaskSpec, task_spec

from .families.registry import family_of

# Added where a token is hidden: large enough for any softmax, and still a float16 number.
HIDDEN = -1e4


@dataclass(frozen=True, slots=True)
class Front:
    """What is traced.

    `inputs` are example tensors by name, in the order of forward's arguments and of the fixed
    sizes asked for. `outputs` are the names of the tuple that forward returns. `padding` is the
    value that fills an input up to its size. `axes` names the axes of inputs and outputs as
    people read them; an axis that has no name is of one size whatever was asked for.
    """

    module: Any
    inputs: Mapping[str, Any]
    outputs: tuple[str, ...]
    axes: Mapping[str, Mapping[int, str]]
    padding: Mapping[str, int] = field(default_factory=dict)


class Family(Protocol):
    """A family's module."""

    def front(self, spec: TaskSpec, folder: Path, model: Any, sizes: Mapping[str, int]) -> Front:
        """Wrap a loaded model for one combination of sizes.

        Raises UnsupportedError for what a mobile engine cannot run of it.
        """


def open_front(task: str, folder: Path, model: Any, sizes: Mapping[str, int]) -> Front:
    """Return the front end of a loaded model (`reference_model.load_model`).

    The model is as it was afterwards; the front end is a graph of its weights, with parts of its
    own where the model's cannot be exported or do not hold in float16 (`swaps.py`). `sizes` are
    those of `compiler/shapes.py`: batch, sequence, samples, ….
    """
    from .swaps import made_safe

    spec = task_spec(task)
    family = cast(Family, importlib.import_module(family_of(spec, model.config.model_type)))
    with made_safe(model):
        return family.front(spec, folder, model, sizes)
