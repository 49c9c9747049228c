"""The proof of graphs whose outputs are compared as they are: logits, boxes, features, maps.

A case carries the graph's inputs, the texts that they were made of where a tokenizer belongs to
the task, and a sketch of each of the original's outputs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import IntegrityError
from edgeward.runtimes.engines.base import EngineSession, Tensor
from edgeward.runtimes.engines.bucketed import longest_sequence
from edgeward.runtimes.session import Session
from edgeward.runtimes.tasks.tokens import TextTokenizer

from .files import CASES_NAME, MAX_CASES_BYTES, REFERENCE_NAME
from .sketch import Sketch, compare_sketches, sketch

PADDED_BATCH = 4
_IDS, _MASK = "input_ids", "attention_mask"


@dataclass(frozen=True, slots=True)
class TensorCase:
    """One case: graph inputs (batch first), the texts behind them, sketches of the outputs."""

    name: str
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Sketch]
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TensorCases:
    """All cases, the axis of each output along which one value is picked, and the padding id."""

    cases: tuple[TensorCase, ...]
    classes: Mapping[str, int]
    padding: int = 0


def write_cases(folder: Path, given: TensorCases) -> None:
    """Write both files below `folder`, under the names that a bundle gives them."""
    from safetensors.numpy import save_file

    (folder / CASES_NAME).parent.mkdir(parents=True, exist_ok=True)
    document = {
        "version": 1,
        "classes": dict(given.classes),
        "padding": given.padding,
        "cases": [{"name": case.name, "texts": list(case.texts)} for case in given.cases],
    }
    text = json.dumps(document, ensure_ascii=False, indent=1)
    (folder / CASES_NAME).write_text(text + "\n", encoding="utf-8")
    tensors: dict[str, NDArray[Any]] = {}
    for number, case in enumerate(given.cases):
        for name, array in case.inputs.items():
            tensors[f"{number}.in.{name}"] = np.ascontiguousarray(array)
        for name, kept in case.outputs.items():
            tensors[f"{number}.values.{name}"] = np.ascontiguousarray(kept.values)
            tensors[f"{number}.picked.{name}"] = np.ascontiguousarray(kept.picked)
    save_file(tensors, folder / REFERENCE_NAME)


def read_cases(folder: Path) -> TensorCases:
    """Read both files; IntegrityError where they are damaged or do not belong together."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        with (folder / CASES_NAME).open("rb") as file:
            document = json.loads(file.read(MAX_CASES_BYTES))
        tensors = load_file(folder / REFERENCE_NAME)
        cases = tuple(
            _case(number, stated, tensors) for number, stated in enumerate(document["cases"])
        )
        classes = {str(name): int(axis) for name, axis in document["classes"].items()}
        return TensorCases(cases, classes, int(document["padding"]))
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError),
        SafetensorError,
    ) as error:
        raise IntegrityError(f"The golden inputs of {folder} are damaged", why=str(error)) from None


def _case(number: int, stated: Any, tensors: Mapping[str, NDArray[Any]]) -> TensorCase:
    def part(kind: str) -> dict[str, NDArray[Any]]:
        prefix = f"{number}.{kind}."
        found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        if not found:
            raise ValueError(f"case {number} has no {kind}")
        return found

    values, picked = part("values"), part("picked")
    outputs = {name: Sketch(values[name].astype(np.float32), picked[name]) for name in values}
    if not all(np.isfinite(kept.values).all() for kept in outputs.values()):
        raise ValueError(f"case {number} is not finite")
    texts = tuple(str(text) for text in stated["texts"])
    return TensorCase(str(stated["name"]), part("in"), outputs, texts)


def tensor_metrics(
    engine: EngineSession, given: TensorCases, tokenizer: TextTokenizer | None = None
) -> dict[str, float]:
    """Run every case alone and in padded batches; the worse of both counts.

    With a tokenizer, also the share of texts whose token ids are all the original's.
    """
    alone = [_run(engine, case.inputs) for case in given.cases]
    shapes = [{name: value.shape for name, value in found.items()} for found in alone]
    by_token = with_tokens([case.inputs for case in given.cases], shapes)
    for case, outputs in zip(given.cases, alone, strict=True):
        if hides_tokens(case.inputs):
            outputs |= {n: without_hidden(outputs[n], case.inputs) for n in by_token}
    pairs = list(zip(given.cases, alone, strict=True))
    pairs += _together(engine, given, by_token)
    compared = compare_sketches(
        (kept, sketch(outputs[name], given.classes.get(name)))
        for case, outputs in pairs
        for name, kept in case.outputs.items()
    )
    if tokenizer is None:
        return compared
    return {**compared, "token_ids_equal": _token_agreement(tokenizer, given.cases)}


def metrics(session: Session, cases: TensorCases) -> dict[str, float]:
    """Run every case in the session's engine."""
    texts = any(case.texts for case in cases.cases)
    longest = longest_sequence(session.engine)
    tokenizer = TextTokenizer(session.bundle.path, longest) if texts else None
    return tensor_metrics(session.engine, cases, tokenizer)


def request(session: Session, cases: TensorCases) -> Callable[[], object]:
    """Return one typical request: the case of middle size."""
    inputs = typical(cases).inputs
    return lambda: session.run(inputs)


def sample(folder: Path) -> Mapping[str, Tensor]:
    """Return the inputs of the case of middle size."""
    return typical(read_cases(folder)).inputs


def count(cases: TensorCases) -> int:
    """How many cases there are."""
    return len(cases.cases)


def typical(cases: TensorCases) -> TensorCase:
    """Return the case of middle size."""
    ordered = sorted(cases.cases, key=lambda case: sum(v.size for v in case.inputs.values()))
    return ordered[len(ordered) // 2]


def _run(engine: EngineSession, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return engine.run({name: inputs[name] for name in engine.inputs})


def hides_tokens(inputs: Mapping[str, Tensor]) -> bool:
    """Whether a case's mask hides some of its tokens."""
    return _MASK in inputs and not inputs[_MASK].all()


def without_hidden(output: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    """Return an output that has one value a token, zero where the mask hides it.

    Nobody reads those, and some models give them values that depend on how many there are.
    """
    mask = inputs[_MASK]
    seen = mask.astype(bool).reshape(*mask.shape, *(1,) * (output.ndim - 2))
    return np.where(seen, output, np.zeros((), output.dtype))


def with_tokens(
    inputs: Sequence[Mapping[str, Tensor]], shapes: Sequence[Mapping[str, tuple[int, ...]]]
) -> set[str]:
    """Return the outputs with one value a token: the second axis is as long as each case's text."""
    return {
        name
        for name in (shapes[0] if shapes else ())
        if all(
            len(each[name]) > 1 and each[name][1] == _length(fed)
            for fed, each in zip(inputs, shapes, strict=True)
        )
    }


def _length(inputs: Mapping[str, Tensor]) -> int:
    return inputs[_IDS].shape[1] if _IDS in inputs else 0


def _together(
    engine: EngineSession, given: TensorCases, with_tokens: Collection[str]
) -> list[tuple[TensorCase, dict[str, Tensor]]]:
    """The cases of one row again, several at once; texts of other lengths are padded."""
    single = [case for case in given.cases if all(len(v) == 1 for v in case.inputs.values())]
    found = []
    for group in _groups(single):
        for at in range(0, len(group), PADDED_BATCH):
            batch = group[at : at + PADDED_BATCH]
            if len(batch) > 1:
                outputs = _run_batch(engine, batch, given.padding, with_tokens)
                found += list(zip(batch, outputs, strict=True))
    return found


def _groups(cases: Sequence[TensorCase]) -> list[list[TensorCase]]:
    """Cases that can share a batch: texts with a mask, or inputs of the same shapes."""
    groups: dict[object, list[TensorCase]] = {}
    for case in cases:
        padded = set(case.inputs) <= {_IDS, _MASK, "token_type_ids"} and _MASK in case.inputs
        key = "texts" if padded else tuple((n, v.shape) for n, v in sorted(case.inputs.items()))
        groups.setdefault(key, []).append(case)
    return list(groups.values())


def _run_batch(
    engine: EngineSession, batch: Sequence[TensorCase], padding: int, with_tokens: Collection[str]
) -> list[dict[str, Tensor]]:
    lengths = [_length(case.inputs) for case in batch]
    longest = max(lengths)
    inputs = {
        name: np.concatenate(
            [_padded(case.inputs[name], longest, padding if name == _IDS else 0) for case in batch]
        )
        for name in batch[0].inputs
    }
    outputs = _run(engine, inputs)
    return [
        {
            name: value[row : row + 1, :length] if name in with_tokens else value[row : row + 1]
            for name, value in outputs.items()
        }
        for row, length in enumerate(lengths)
    ]


def _padded(array: Tensor, longest: int, value: int) -> Tensor:
    if array.ndim != 2 or array.dtype.kind != "i":
        return array
    return np.pad(array, ((0, 0), (0, longest - array.shape[1])), constant_values=value)


def _token_agreement(tokenizer: TextTokenizer, cases: Sequence[TensorCase]) -> float:
    told = [case for case in cases if case.texts]
    equal = 0
    for case in told:
        encoded = tokenizer([case.texts[0]] if len(case.texts) == 1 else [case.texts])
        equal += np.array_equal(encoded.ids, case.inputs[_IDS])
    return equal / len(told) if told else 1.0
