"""Queries that run a graph once: vectors, classes, tags, pictures, waveforms.

Texts to be embedded go the session's whole way, tokenizer and pooling too; everything else is
prepared before, as MLPerf has its samples in memory, and what is timed is `Session.run`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgeward.errors import BundleError, UsageError
from edgeward.runtimes.engines.base import Tensor
from edgeward.runtimes.proof import tensor_files, vectors
from edgeward.runtimes.proof.feeding import DIFFERENCES, open_feeder
from edgeward.runtimes.session import Session
from edgeward.runtimes.tasks.generation import context_limit, read_settings
from edgeward.runtimes.tasks.tokens import TextTokenizer
from edgeward.runtimes.tasks.waveforms import WAVE, Waveforms

from .data import read_bytes, read_texts
from .request import Request
from .workload import Workload, golden_cases, lengthened, unheard

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"


def embeddings(session: Session, request: Request) -> Workload:
    """Return the workload of sentence vectors: the text of middle length, several a batch."""
    if request.data:
        texts = read_texts(Path(request.data))
    else:
        cases: vectors.GoldenCases = golden_cases(session)
        texts = list(cases.texts)
    embedder = session.embedder
    if request.prompt:
        ids = embedder.tokenizer([max(texts, key=len)]).ids[0].tolist()
        return _of_ids(session, request, ids)
    middle = sorted(texts, key=len)[len(texts) // 2]
    batch, tokens = [middle] * request.batch, int(embedder.tokenizer([middle]).ids.shape[1])
    ask = unheard(lambda: session.embed(batch, batch_size=request.batch))
    return Workload(ask, "texts to vectors", request.batch, tokens)


def tensors(session: Session, request: Request) -> Workload:
    """Return the workload of a graph whose inputs are prepared: one sample, several a batch."""
    inputs = _inputs(session, request)
    ids = inputs.get(IDS)
    if request.prompt:
        if ids is None:
            raise UsageError("A prompt has tokens, and this bundle reads no text")
        return _of_ids(session, request, ids[0].tolist())
    stacked = {
        name: np.concatenate([value] * request.batch) if value.ndim else value
        for name, value in inputs.items()
    }
    read = int(ids.shape[1]) if ids is not None else 0
    ask = unheard(lambda: session.run(stacked))
    return Workload(ask, "prepared", request.batch, read, seconds=_heard_seconds(session, stacked))


def _heard_seconds(session: Session, inputs: Mapping[str, Tensor]) -> float:
    """Seconds of all the waveforms of a query, 0 where none is fed."""
    waves = inputs.get(WAVE)
    return 0.0 if waves is None else waves.size / Waveforms(session.bundle.path).rate


def _of_ids(session: Session, request: Request, ids: Sequence[int]) -> Workload:
    """Rows of exactly `prompt` tokens, every one of them seen."""
    folder = session.bundle.path
    limit = context_limit(folder, read_settings(folder / "config.json"))
    if limit is not None and request.prompt > limit:
        raise UsageError(
            f"{request.prompt} tokens do not fit the model", why=f"it takes {limit} at most"
        )
    row = np.array([lengthened(ids, request.prompt)] * request.batch, np.int64)
    given = {IDS: row, MASK: np.ones_like(row), TYPES: np.zeros_like(row)}
    inputs = _wanted(session, given)
    ask = unheard(lambda: session.run(inputs))
    return Workload(ask, "prepared", request.batch, request.prompt)


def _inputs(session: Session, request: Request) -> dict[str, Tensor]:
    """One sample: of the file that is given, else the golden case of middle size."""
    if request.data:
        return _wanted(session, _from_file(session, Path(request.data)))
    cases: tensor_files.TensorCases = golden_cases(session)
    if cases.cases:
        return _wanted(session, tensor_files.typical(cases).inputs)
    source = cases.files[0].source if cases.files else None
    if source is None:
        raise BundleError(f"{session.bundle.path} carries no golden inputs")
    made = open_feeder(source.feeds, session.bundle.path, session.engine)(source.content)
    return _wanted(session, {**cases.files[0].inputs, source.feeds: made})


def _from_file(session: Session, path: Path) -> dict[str, Tensor]:
    folder, engine = session.bundle.path, session.engine
    if IDS in engine.inputs:
        texts = sorted(read_texts(path), key=len)
        encoded = TextTokenizer(folder)([texts[len(texts) // 2]])
        return {IDS: encoded.ids, MASK: encoded.mask, TYPES: encoded.types}
    fed = next((name for name in engine.inputs if name in DIFFERENCES), None)
    if fed is None:
        raise UsageError("Nothing makes this bundle's inputs of a file")
    feeder = open_feeder(fed, folder, engine)
    try:
        return {fed: feeder(read_bytes(path))}
    except UsageError as error:
        raise UsageError(
            f"{path} is not what this bundle is fed", why=error.why or error.what, next=error.next
        ) from None


def _wanted(session: Session, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    lacking = [name for name in session.engine.inputs if name not in given]
    if lacking:
        raise UsageError("This bundle takes inputs that are not given", why=", ".join(lacking))
    return {name: given[name] for name in session.engine.inputs}
