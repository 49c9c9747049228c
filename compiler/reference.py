"""The reference stage: what the float32 torch model makes of the golden and evaluation texts.

Runs inside the format's toolchain. The texts go through the model's own tokenizer, not the
packaged one, so that the proof covers the tokenizer too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import SourceError
from edgeward.runtimes.proof.vectors import GoldenCases, write_cases
from edgeward.runtimes.tasks.embedding import prepare_texts
from edgeward.runtimes.tasks.pooling import Pipeline, read_pipeline
from edgeward.runtimes.tasks.tokens import token_limit

from .reference_model import load_model, load_tokenizer
from .stage_context import StageContext

EVALUATION_NAME, SHAPES_NAME = "evaluation.safetensors", "shapes.safetensors"
_BATCH = 16
_DEFAULT_LONGEST = 512


def reference(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write `golden/`, `evaluation.safetensors` and `shapes.safetensors`."""
    folder = context.inputs["source"]
    pipeline = read_pipeline(folder)
    longest = max(params.get("sizes", {}).get("sequence", ()), default=None)
    limit = token_limit(folder, pipeline.max_tokens, longest)
    original = _Original(folder, pipeline, limit)
    names, texts = params["golden_names"], [_grown(t, limit) for t in params["golden_texts"]]
    context.progress(0.2, "golden inputs")
    rows = [original.embed([text]) for text in texts]
    if not all(np.isfinite(vectors).all() for vectors, _ in rows):
        raise SourceError(
            f"{folder} gives vectors that are not finite",
            why="its weights hold NaN or infinities, or it overflows in float32",
        )
    cases = GoldenCases(
        tuple(texts),
        np.concatenate([vectors for vectors, _ in rows]),
        tuple(tuple(ids[0]) for _, ids in rows),
    )
    write_cases(context.out, names, cases)
    context.progress(0.5, "evaluation set")
    _write_evaluation(context.out, original, params["evaluation_texts"])
    context.progress(0.8, "shapes that were not traced")
    shapes = _untraced_shapes(limit)
    _write_shapes(context.out, original, shapes, params["seed"])
    return {
        "shapes": [list(shape) for shape in shapes],
        "dimensions": int(cases.vectors.shape[1]),
        "pipeline": pipeline.described,
        "summary": f"torch float32, {len(texts)} golden and {len(params['evaluation_texts'])} "
        f"evaluation texts, {pipeline.described}",
    }


class _Original:
    """The torch model behind its own tokenizer."""

    def __init__(self, folder: Path, pipeline: Pipeline, limit: int | None) -> None:
        self._model, self._tokenizer = load_model(folder), load_tokenizer(folder)
        self._pipeline, self._limit = pipeline, limit

    def embed(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], list[list[int]]]:
        """Embed a batch: vectors (texts, dimensions), and the real tokens' ids of each text."""
        prepared = prepare_texts(self._pipeline, texts)
        encoded = self._tokenizer(
            prepared,
            padding=True,
            truncation=self._limit is not None,
            max_length=self._limit,
            return_tensors="pt",
        )
        mask = encoded["attention_mask"].numpy()
        ids = [
            row[kept == 1].tolist() for row, kept in zip(encoded["input_ids"], mask, strict=True)
        ]
        return self._pipeline(self.hidden(encoded), mask), ids

    def hidden(self, inputs: Mapping[str, Any]) -> NDArray[np.float32]:
        """Return the last hidden states (batch, sequence, hidden)."""
        import torch

        with torch.inference_mode():
            states = self._model(**inputs).last_hidden_state
        return np.asarray(states.float().numpy(), np.float32)

    def random_inputs(self, shape: tuple[int, int], seed: int) -> dict[str, Any]:
        """Return seeded token ids of a shape, the last row padded where there is room."""
        import torch

        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(0, self._model.config.vocab_size, shape, generator=generator)
        mask = torch.ones_like(ids)
        if shape[0] > 1 and shape[1] > 1:
            mask[-1, shape[1] // 2 :] = 0
        inputs = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in self._tokenizer.model_input_names:
            inputs["token_type_ids"] = torch.zeros_like(ids)
        return inputs


def _grown(text: str, limit: int | None) -> str:
    """Repeat a text marked with a trailing `...` until it is longer than the model takes."""
    if not text.endswith("..."):
        return text
    return (text[:-3] + " ") * (1 + (limit or _DEFAULT_LONGEST) // max(len(text.split()) - 1, 1))


def _untraced_shapes(limit: int | None) -> tuple[tuple[int, int], ...]:
    longest = min(limit or _DEFAULT_LONGEST, _DEFAULT_LONGEST)
    shapes = ((1, 1), (1, 5), (3, 17), (5, 3), (2, longest))
    return tuple((rows, min(length, longest)) for rows, length in shapes)


def _write_evaluation(out: Path, original: _Original, texts: Sequence[str]) -> None:
    from safetensors.numpy import save_file

    batches = [texts[at : at + _BATCH] for at in range(0, len(texts), _BATCH)]
    vectors = np.concatenate([original.embed(batch)[0] for batch in batches])
    save_file({"vectors": np.ascontiguousarray(vectors)}, out / EVALUATION_NAME)


def _write_shapes(
    out: Path, original: _Original, shapes: Sequence[tuple[int, int]], seed: int
) -> None:
    from safetensors.numpy import save_file

    tensors: dict[str, NDArray[Any]] = {}
    for number, shape in enumerate(shapes):
        inputs = original.random_inputs(shape, seed + number)
        for name, tensor in inputs.items():
            tensors[f"{number}.{name}"] = tensor.numpy()
        tensors[f"{number}.hidden"] = np.ascontiguousarray(original.hidden(inputs))
    save_file(tensors, out / SHAPES_NAME)
