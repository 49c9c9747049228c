"""Cases of tensors, and the two files that hold them.

A case carries the graph's inputs, the texts that they were made of where a tokenizer belongs to
the task, and a sketch of each of the original's outputs. A case that was made of a picture or a
sound carries its file instead of what is made of it, so that a proof covers that too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import IntegrityError
from edgeward.runtimes.engines.base import Tensor

from .files import CASES_NAME, MAX_CASES_BYTES, REFERENCE_NAME
from .sketch import Sketch
from .views import View, open_view

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class FileSource:
    """A picture's or a sound's file.

    `feeds` is the input that is made of it, `fed` chosen values of what the original's own
    preprocessing makes; `label` is its class, -1 where none was given, `words` what it says.
    """

    content: bytes
    feeds: str
    fed: NDArray[np.float32]
    label: int = -1
    words: str = ""


@dataclass(frozen=True, slots=True)
class TensorCase:
    """One case: graph inputs (batch first), the texts behind them, sketches of the outputs.

    `kept` is what the task's view keeps of the outputs; `source` the file that lacking inputs are
    made of.
    """

    name: str
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Sketch]
    texts: tuple[str, ...] = ()
    kept: NDArray[Any] | None = None
    source: FileSource | None = None


@dataclass(frozen=True, slots=True)
class TensorCases:
    """All cases, the axis of each output along which one value is picked, and the padding id.

    `files` are the cases that are made of files. `view` names what a user sees of the outputs.
    """

    cases: tuple[TensorCase, ...]
    classes: Mapping[str, int]
    padding: int = 0
    files: tuple[TensorCase, ...] = ()
    view: str = ""
    view_settings: Mapping[str, int] = field(default_factory=dict)

    def open_view(self) -> View | None:
        """Return what counts the outputs as a user sees them."""
        return open_view(self.view, self.view_settings)


def write_cases(folder: Path, given: TensorCases) -> None:
    """Write both files below `folder`, under the names that a bundle gives them."""
    from safetensors.numpy import save_file

    (folder / CASES_NAME).parent.mkdir(parents=True, exist_ok=True)
    document = {
        "version": 1,
        "classes": dict(given.classes),
        "padding": given.padding,
        "view": {"name": given.view, "settings": dict(given.view_settings)},
        "cases": [{"name": case.name, "texts": list(case.texts)} for case in given.cases],
        "files": [_stated(case) for case in given.files],
    }
    text = json.dumps(document, ensure_ascii=False, indent=1)
    (folder / CASES_NAME).write_text(text + "\n", encoding="utf-8")
    tensors: dict[str, NDArray[Any]] = {}
    for number, case in enumerate(given.cases):
        tensors |= _tensors(f"{number}", case)
    for number, case in enumerate(given.files):
        tensors |= _tensors(f"f{number}", case)
    save_file(tensors, folder / REFERENCE_NAME)


def read_cases(folder: Path) -> TensorCases:
    """Read both files; IntegrityError where they are damaged or do not belong together."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        with (folder / CASES_NAME).open("rb") as file:
            document = json.loads(file.read(MAX_CASES_BYTES))
        tensors = load_file(folder / REFERENCE_NAME)
        stated = document.get("view", {"name": "", "settings": {}})
        settings = {str(name): int(value) for name, value in stated["settings"].items()}
        view = open_view(stated["name"], settings)
        return TensorCases(
            tuple(_case(f"{n}", one, tensors, view) for n, one in enumerate(document["cases"])),
            {str(name): int(axis) for name, axis in document["classes"].items()},
            int(document["padding"]),
            tuple(
                _file_case(f"f{n}", one, tensors, view)
                for n, one in enumerate(document.get("files", ()))
            ),
            stated["name"],
            settings,
        )
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError),
        SafetensorError,
    ) as error:
        raise IntegrityError(f"The golden inputs of {folder} are damaged", why=str(error)) from None


def typical(cases: TensorCases) -> TensorCase:
    """Return the case of middle size."""
    ordered = sorted(cases.cases, key=lambda case: sum(v.size for v in case.inputs.values()))
    return ordered[len(ordered) // 2]


def _stated(case: TensorCase) -> dict[str, Any]:
    source = case.source
    if source is None:
        raise ValueError(f"{case.name} has no file")
    told = {"feeds": source.feeds, "label": source.label, "words": source.words}
    return {"name": case.name, "texts": list(case.texts), **told}


def _tensors(place: str, case: TensorCase) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    for name, array in case.inputs.items():
        found[f"{place}.in.{name}"] = np.ascontiguousarray(array)
    for name, kept in case.outputs.items():
        found[f"{place}.values.{name}"] = np.ascontiguousarray(kept.values)
        found[f"{place}.picked.{name}"] = np.ascontiguousarray(kept.picked)
    if case.kept is not None:
        found[f"{place}.kept"] = np.ascontiguousarray(case.kept)
    if case.source is not None:
        found[f"{place}.file"] = np.frombuffer(case.source.content, np.uint8)
        found[f"{place}.fed"] = np.ascontiguousarray(case.source.fed)
    return found


def _case(place: str, stated: Any, tensors: Arrays, view: View | None) -> TensorCase:
    inputs = _part(place, "in", tensors)
    if not inputs:
        raise ValueError(f"case {place} has no inputs")
    return TensorCase(str(stated["name"]), inputs, *_answers(place, stated, tensors, view))


def _file_case(place: str, stated: Any, tensors: Arrays, view: View | None) -> TensorCase:
    content, fed, label = tensors[f"{place}.file"], tensors[f"{place}.fed"], stated["label"]
    if content.dtype != np.uint8 or content.ndim != 1 or type(label) is not int:
        raise ValueError(f"case {place} has no file")
    if fed.dtype != np.float32 or not np.isfinite(fed).all():
        raise ValueError(f"what the original made of case {place} is not finite")
    source = FileSource(content.tobytes(), str(stated["feeds"]), fed, label, str(stated["words"]))
    answers = _answers(place, stated, tensors, view)
    return TensorCase(str(stated["name"]), _part(place, "in", tensors), *answers, source)


def _answers(
    place: str, stated: Any, tensors: Arrays, view: View | None
) -> tuple[dict[str, Sketch], tuple[str, ...], NDArray[Any] | None]:
    values, picked = _part(place, "values", tensors), _part(place, "picked", tensors)
    outputs = {name: Sketch(values[name].astype(np.float32), picked[name]) for name in values}
    if not outputs or not all(np.isfinite(kept.values).all() for kept in outputs.values()):
        raise ValueError(f"case {place} is not finite, or has no outputs")
    kept = tensors.get(f"{place}.kept")
    if kept is not None and (view is None or not view.fits(kept)):
        raise ValueError(f"what is kept of case {place} is not what its view keeps")
    return outputs, tuple(str(text) for text in stated["texts"]), kept


def _part(place: str, kind: str, tensors: Arrays) -> dict[str, NDArray[Any]]:
    prefix = f"{place}.{kind}."
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
