"""The proof of graphs whose outputs are compared as they are: logits, boxes, features, maps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeward.runtimes.engines.base import EngineSession, Tensor
from edgeward.runtimes.engines.bucketed import longest_sequence
from edgeward.runtimes.session import Session
from edgeward.runtimes.tasks.tokens import TextTokenizer

from .feeding import Feeder, open_feeder
from .tensor_count import Counted
from .tensor_files import TensorCase, TensorCases, read_cases, typical, write_cases

__all__ = ["TensorCase", "TensorCases", "read_cases", "typical", "write_cases"]
PADDED_BATCH = 4
_IDS, _MASK = "input_ids", "attention_mask"


def tensor_metrics(
    engine: EngineSession,
    given: TensorCases,
    tokenizer: TextTokenizer | None = None,
    folder: Path | None = None,
    *,
    apart: bool = True,
) -> dict[str, float]:
    """Run every case alone and in padded batches; the worse of both counts.

    With a tokenizer, also the share of texts whose token ids are all the original's. Files are
    read by the settings in `folder`, without which they are left out; their outputs are told
    `apart` where this machine may round pixels otherwise than the one that compiled.
    """
    counted = Counted(given, folder, apart=apart)
    alone = [_run(engine, case.inputs) for case in given.cases]
    shapes = [{name: value.shape for name, value in found.items()} for found in alone]
    by_token = with_tokens([case.inputs for case in given.cases], shapes)
    for case, outputs in zip(given.cases, alone, strict=True):
        if hides_tokens(case.inputs):
            outputs |= {n: without_hidden(outputs[n], case.inputs) for n in by_token}
    counted.add(zip(given.cases, alone, strict=True))
    del alone
    counted.add(_together(engine, given, given.cases, by_token))
    for made in _from_files(engine, given, folder):
        counted.add_files((case, _run(engine, case.inputs)) for case in made)
        counted.add(_together(engine, given, made, set()), files=True)
    found = counted.metrics()
    if tokenizer is None:
        return found
    return {**found, "token_ids_equal": _token_agreement(tokenizer, given.cases)}


def _from_files(
    engine: EngineSession, given: TensorCases, folder: Path | None
) -> Iterator[list[TensorCase]]:
    """A few cases at a time, with the inputs that are made of their files."""
    if folder is None:
        return
    feeders: dict[str, Feeder] = {}
    for at in range(0, len(given.files), PADDED_BATCH):
        made = []
        for case in given.files[at : at + PADDED_BATCH]:
            source = case.source
            if source is None:
                continue
            if source.feeds not in feeders:
                feeders[source.feeds] = open_feeder(source.feeds, folder, engine)
            made_of = {source.feeds: feeders[source.feeds](source.content)}
            made.append(replace(case, inputs={**case.inputs, **made_of}))
        yield made


def metrics(session: Session, cases: TensorCases) -> dict[str, float]:
    """Run every case in the session's engine."""
    texts = any(case.texts for case in cases.cases)
    longest = longest_sequence(session.engine)
    tokenizer = TextTokenizer(session.bundle.path, longest) if texts else None
    return tensor_metrics(session.engine, cases, tokenizer, session.bundle.path)


def request(session: Session, cases: TensorCases) -> Callable[[], object]:
    """Return one typical request: the case of middle size."""
    inputs = typical(cases).inputs
    return lambda: session.run(inputs)


def sample(folder: Path) -> Mapping[str, Tensor]:
    """Return the inputs of the case of middle size."""
    return typical(read_cases(folder)).inputs


def count(cases: TensorCases) -> int:
    """How many cases there are."""
    return len(cases.cases) + len(cases.files)


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
    engine: EngineSession,
    given: TensorCases,
    cases: Sequence[TensorCase],
    with_tokens: Collection[str],
) -> list[tuple[TensorCase, dict[str, Tensor]]]:
    """The cases of one row again, several at once; texts of other lengths are padded."""
    single = [case for case in cases if all(len(v) == 1 for v in case.inputs.values())]
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
