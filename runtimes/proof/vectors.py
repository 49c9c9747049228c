"""The proof of sentence vectors: texts, the original's vectors, and its token ids."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import IntegrityError
from edgeward.runtimes.engines.base import Tensor
from edgeward.runtimes.session import Session
from edgeward.runtimes.tasks.embedding import Embedder, prepare_texts
from edgeward.runtimes.tasks.pooling import read_pipeline
from edgeward.runtimes.tasks.tokens import TextTokenizer

from .compare import compare_vectors
from .files import CASES_NAME, MAX_CASES_BYTES, REFERENCE_NAME

PADDED_BATCH = 6


@dataclass(frozen=True, slots=True)
class GoldenCases:
    """The texts, the original's vectors (n, dimensions) float32, and its token ids."""

    texts: tuple[str, ...]
    vectors: NDArray[np.float32]
    ids: tuple[tuple[int, ...], ...]


def write_cases(folder: Path, names: Sequence[str], cases: GoldenCases) -> None:
    """Write both files below `folder`, under the names that a bundle gives them."""
    from safetensors.numpy import save_file

    (folder / "golden").mkdir(parents=True, exist_ok=True)
    listed = [{"name": n, "text": t} for n, t in zip(names, cases.texts, strict=True)]
    text = json.dumps({"version": 1, "cases": listed}, ensure_ascii=False, indent=1)
    (folder / CASES_NAME).write_text(text + "\n", encoding="utf-8")
    flat = [token for ids in cases.ids for token in ids]
    tensors = {
        "vectors": np.ascontiguousarray(cases.vectors),
        "ids": np.array(flat, np.int64),
        "lengths": np.array([len(ids) for ids in cases.ids], np.int64),
    }
    save_file(tensors, folder / REFERENCE_NAME)


def read_cases(folder: Path) -> GoldenCases:
    """Read both files; IntegrityError where they are damaged or do not belong together."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        with (folder / CASES_NAME).open("rb") as file:
            document = json.loads(file.read(MAX_CASES_BYTES))
        texts = tuple(str(case["text"]) for case in document["cases"])
        tensors = load_file(folder / REFERENCE_NAME)
        ids = _token_rows(tensors["ids"], tensors["lengths"], len(texts))
        vectors = _checked_vectors(tensors["vectors"], len(texts))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise IntegrityError(f"The golden inputs of {folder} are damaged", why=str(error)) from None
    return GoldenCases(texts, vectors, ids)


def _token_rows(
    ids: NDArray[np.generic], lengths: NDArray[np.generic], texts: int
) -> tuple[tuple[int, ...], ...]:
    if not all(part.ndim == 1 and part.dtype.kind in "iu" for part in (ids, lengths)):
        raise ValueError("the token ids are not one row of whole numbers")
    counts, flat = lengths.tolist(), ids.tolist()
    if len(counts) != texts or min(counts) < 0 or sum(counts) != len(flat):
        raise ValueError("the token ids do not match the texts")
    ends = itertools.accumulate(counts, initial=0)
    return tuple(tuple(flat[a:b]) for a, b in itertools.pairwise(ends))


def _checked_vectors(vectors: NDArray[np.generic], texts: int) -> NDArray[np.float32]:
    if vectors.ndim != 2 or len(vectors) != texts:
        raise ValueError("the vectors do not match the texts")
    checked = vectors.astype(np.float32)
    if not np.isfinite(checked).all():
        raise ValueError("the vectors are not finite")
    return checked


def golden_metrics(embedder: Embedder, cases: GoldenCases) -> dict[str, float]:
    """Run every case alone and in padded batches; the worse of both counts."""
    prepared = embedder.prepare(cases.texts)
    alone = _embed(embedder, prepared, 1)
    together = _embed(embedder, prepared, PADDED_BATCH)
    both = compare_vectors(
        np.concatenate([cases.vectors, cases.vectors]), np.concatenate([alone, together])
    )
    return {**both, "token_ids_equal": token_agreement(embedder, prepared, cases.ids)}


def _embed(embedder: Embedder, texts: Sequence[str], size: int) -> NDArray[np.float32]:
    batches = [texts[at : at + size] for at in range(0, len(texts), size)]
    return np.concatenate([embedder.embed_batch(batch)[0] for batch in batches])


def token_agreement(
    embedder: Embedder, prepared: Sequence[str], wanted: Sequence[Sequence[int]]
) -> float:
    """Return the share of texts whose token ids are all the original's."""
    equal = 0
    for text, ids in zip(prepared, wanted, strict=True):
        encoded = embedder.tokenizer([text])
        equal += encoded.ids[0].tolist() == list(ids)
    return equal / len(wanted)


def metrics(session: Session, cases: GoldenCases) -> dict[str, float]:
    """Run every case in the session's engine."""
    return golden_metrics(session.embedder, cases)


def request(session: Session, cases: GoldenCases) -> Callable[[], object]:
    """Return one typical request: the text of middle length."""
    text = typical(cases)
    return lambda: session.embed([text])


def sample(folder: Path) -> Mapping[str, Tensor]:
    """Return the inputs that the text of middle length becomes."""
    pipeline = read_pipeline(folder)
    encoded = TextTokenizer(folder, pipeline.max_tokens)(
        prepare_texts(pipeline, [typical(read_cases(folder))])
    )
    return {
        "input_ids": encoded.ids,
        "attention_mask": encoded.mask,
        "token_type_ids": encoded.types,
    }


def typical(cases: GoldenCases) -> str:
    """Return the text of middle length."""
    return sorted(cases.texts, key=len)[len(cases.texts) // 2]


def count(cases: GoldenCases) -> int:
    """How many cases there are."""
    return len(cases.texts)
