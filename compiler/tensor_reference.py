"""The reference stage of every task whose outputs are compared as they are.

Runs inside the format's toolchain. Inputs come from the model's own tokenizer, from seeded
pictures and sounds, and from files through the model's own preprocessing; outputs from the float32
torch model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.errors import SourceError
from edgeward.runtimes.engines.base import Tensor
from edgeward.runtimes.proof.files import CASES_NAME, REFERENCE_NAME
from edgeward.runtimes.proof.sketch import sketch
from edgeward.runtimes.proof.tensor_files import (
    FileSource,
    TensorCase,
    TensorCases,
    write_cases,
)
from edgeward.runtimes.proof.tensors import hides_tokens, with_tokens, without_hidden
from edgeward.runtimes.proof.views import View
from edgeward.runtimes.tasks.ctc import CtcLetters
from edgeward.runtimes.tasks.labels import read_config, read_labels
from edgeward.runtimes.tasks.writing_rules import token

from .given import LABELLED, class_of, wanted_kind
from .given_data import PICTURES, SOUNDS
from .given_stage import INPUT, Kept, kept_files
from .modalities.base import Given, open_modality
from .preprocessors import no_preprocessing
from .reference_model import load_model
from .stage_context import StageContext
from .tasks import TaskSpec, task_spec

EVALUATION, UNTRACED = "evaluation", "untraced"
MOST_EVALUATED = 128
_PACKAGED = {PICTURES: ("pictures", ".png"), SOUNDS: ("speech", ".wav")}


def reference(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write `golden/`, and the same below `evaluation/` and `untraced/`.

    The evaluation set is what was given, else seeded cases and the packaged files.
    """
    spec, folder = task_spec(params["task"]), context.inputs["source"]
    original = _Original(spec, folder)
    modality = original.modality
    modality.fit(params.get("sizes", {}))
    named = dict(zip(params["golden_names"], params["golden_texts"], strict=True))
    given = kept_files(context.inputs.get(INPUT), MOST_EVALUATED)
    packaged = packaged_files(spec)
    texts = params.get("evaluation_pairs") or params["evaluation_texts"]
    sets = {
        "": (modality.golden(named), packaged),
        EVALUATION: ([] if given else modality.evaluation(texts), given or packaged),
        UNTRACED: (modality.untraced(params["seed"]), []),
    }
    counted: dict[str, TensorCases] = {}
    for number, (place, (made, read)) in enumerate(sets.items()):
        context.progress(0.2 + 0.25 * number, place or "golden inputs")
        counted[place] = original.cases(
            made, read, seen=place != UNTRACED, asked=bool(given) and place == EVALUATION
        )
        write_cases(context.out / place, counted[place])
    golden, evaluated = (len(c.cases) + len(c.files) for c in (counted[""], counted[EVALUATION]))
    return {
        "shapes": [list(_shape(one)) for one in sets[UNTRACED][0]],
        "cases": golden,
        "evaluation_sha256": _digest(context.out / EVALUATION),
        "summary": f"torch float32, {golden} golden and {evaluated} evaluation cases",
    }


class _Original:
    """The torch model, its preprocessing, and what a user sees of its outputs."""

    def __init__(self, spec: TaskSpec, folder: Path) -> None:
        self._spec = spec
        self._model = load_model(folder, spec.auto_class)
        self.modality = open_modality(spec, folder, self._model)
        settings = _letters(folder) if spec.view == "letters" else {}
        self._none = TensorCases((), spec.classes, _padding(self._model), (), spec.view, settings)
        self._labels = read_labels(read_config(folder)) if spec.name in LABELLED else ()

    def cases(
        self, made: Sequence[Given], kept: Sequence[Kept], *, seen: bool, asked: bool
    ) -> TensorCases:
        """Return the cases, where `seen` with what a user sees of them.

        Raises UnsupportedError where files were `asked` for and none can be read.
        """
        view = self._none.open_view() if seen else None
        everywhere = None if self._spec.view == "letters" else view
        plain = self._plain(made, everywhere)
        read = []
        for file in kept:
            one = self.modality.from_file(file.name, file.content)
            if one is None:
                continue
            case = _case(self._spec, one, _outputs(self._model, self._spec, one), view)
            if self.modality.feeds:
                read.append(self._of_file(case, file))
            else:
                plain.append(case)
        if asked and not read and not plain:
            raise no_preprocessing()
        return replace(self._none, cases=tuple(plain), files=tuple(read))

    def _plain(self, made: Sequence[Given], view: View | None) -> list[TensorCase]:
        """A case with hidden tokens waits for the others: they tell which outputs have tokens."""
        inputs = [_arrays(one) for one in made]
        shapes, found = [], dict[int, TensorCase]()
        waiting: dict[int, dict[str, Tensor]] = {}
        for number, one in enumerate(made):
            outputs = _outputs(self._model, self._spec, one)
            shapes.append({name: value.shape for name, value in outputs.items()})
            if hides_tokens(inputs[number]):
                waiting[number] = outputs
            else:
                found[number] = _case(self._spec, one, outputs, view)
        by_token = with_tokens(inputs, shapes)
        for number, outputs in waiting.items():
            outputs |= {name: without_hidden(outputs[name], inputs[number]) for name in by_token}
            found[number] = _case(self._spec, made[number], outputs, view)
        return [found[number] for number in range(len(made))]

    def _of_file(self, case: TensorCase, file: Kept) -> TensorCase:
        feeds = self.modality.feeds
        inputs = dict(case.inputs)
        fed = sketch(inputs.pop(feeds)).values
        number = class_of(file.label, self._labels) if file.label else None
        label = -1 if number is None else number
        return replace(
            case, inputs=inputs, source=FileSource(file.content, feeds, fed, label, file.words)
        )


def packaged_files(spec: TaskSpec) -> list[Kept]:
    """Return the packaged pictures or sounds of a task, none for texts."""
    place, suffix = _PACKAGED.get(wanted_kind(spec), ("", ""))
    if not place:
        return []
    folder = files("edgeward.compiler") / "data" / place
    found = sorted((o for o in folder.iterdir() if o.name.endswith(suffix)), key=lambda o: o.name)
    return [Kept(one.name.removesuffix(suffix), one.read_bytes()) for one in found]


def _padding(model: Any) -> int:
    return getattr(model.config.get_text_config(), "pad_token_id", None) or 0


def _letters(folder: Path) -> dict[str, int]:
    """The tokens for nothing and between words; without a vocabulary the padding alone."""
    if (folder / "vocab.json").is_file():
        letters = CtcLetters(folder)
        return {"blank": letters.blank, "gap": letters.gap}
    return {"blank": token(read_config(folder).get("pad_token_id")) or 0}


def _digest(folder: Path) -> str:
    """The digest of both files of a set."""
    parts = [hashlib.sha256((folder / n).read_bytes()) for n in (CASES_NAME, REFERENCE_NAME)]
    return hashlib.sha256(b"".join(part.digest() for part in parts)).hexdigest()


def _case(
    spec: TaskSpec, given: Given, outputs: Mapping[str, Tensor], view: View | None
) -> TensorCase:
    return TensorCase(
        given.name,
        _arrays(given),
        {name: sketch(value, spec.classes.get(name)) for name, value in outputs.items()},
        given.texts,
        None if view is None else view.keep(outputs),
    )


def _arrays(given: Given) -> dict[str, Tensor]:
    return {name: tensor.numpy() for name, tensor in given.tensors.items()}


def _outputs(model: Any, spec: TaskSpec, given: Given) -> dict[str, Tensor]:
    import torch

    with torch.inference_mode():
        results = model(**given.tensors)
    outputs = {name: np.asarray(results[name].float().numpy()) for name in spec.outputs}
    for name, value in outputs.items():
        if not np.isfinite(value).all():
            raise SourceError(
                f"The model's {name} is not finite for {given.name}",
                why="its weights hold NaN or infinities, or it overflows in float32",
            )
    return outputs


def _shape(given: Given) -> Sequence[int]:
    return tuple(next(iter(given.tensors.values())).shape)
