"""The reference stage of text generation: what the float32 torch model finds likely.

Runs inside the format's toolchain. Prompts go through the model's own tokenizer and chat template,
not the packaged ones, so that the proof covers both.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import SourceError
from edgeward.runtimes.proof.generation import GenerationCase, Prompt, generation_case, write_cases
from edgeward.runtimes.tasks.generation import context_limit, first_ids
from edgeward.runtimes.tasks.pooling import read_json

from .reference_model import load_model, load_tokenizer
from .stage_context import StageContext
from .tasks import task_spec

EVALUATION, SHAPES_NAME = "evaluation", "shapes.safetensors"
GOLDEN_TOKENS, EVALUATION_TOKENS = 24, 64
_LONGEST = 512
# Longer than one part of a prefill.
_LONG_PROMPT = 300
_PASSAGES = (8, 32, 128, 128, 256, 512)
_SHAPES = ((1, 0, 1), (1, 5, 1), (1, 3, 9), (2, 0, 7), (3, 6, 4), (2, 40, 1))
_CHAT: tuple[Mapping[str, str], ...] = (
    {"role": "user", "content": "Which platform does the train to Malmö leave from?"},
    {"role": "assistant", "content": "Platform 4, at 9:15."},
    {"role": "user", "content": "And how long does it take?"},
)


def reference(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write `golden/`, `evaluation/` and `shapes.safetensors`."""
    folder = context.inputs["source"]
    original = _Original(folder, task_spec(params["task"]).auto_class)
    context.progress(0.2, "golden prompts")
    named = dict(zip(params["golden_names"], params["golden_texts"], strict=True))
    golden = [original.case(name, prompt) for name, prompt in original.prompts(named)]
    write_cases(context.out, golden)
    context.progress(0.5, "evaluation passages")
    passages = list(original.passages(params["evaluation_texts"]))
    evaluation = [original.passage(ids, number) for number, ids in enumerate(passages)]
    write_cases(context.out / EVALUATION, evaluation)
    context.progress(0.8, "shapes that were not traced")
    _write_shapes(context.out, original, params["seed"])
    tokens = sum(len(ids) for ids in passages)
    return {
        "shapes": [list(shape) for shape in _SHAPES],
        "cases": len(golden),
        "summary": f"torch float32, {len(golden)} prompts, {len(passages)} passages of {tokens} "
        f"tokens, perplexity {_perplexity(evaluation):.2f}",
    }


class _Original:
    """The torch model behind its own tokenizer."""

    def __init__(self, folder: Path, auto_class: str) -> None:
        self._model, self._tokenizer = load_model(folder, auto_class), load_tokenizer(folder)
        self._positions = "position_ids" in inspect.signature(self._model.forward).parameters
        config = read_json(folder / "config.json")
        self._first = first_ids(config)
        limit = context_limit(folder, config)
        self._limit = min(limit or _LONGEST, _LONGEST)
        self.vocabulary = int(self._model.config.get_text_config().vocab_size)

    def prompts(self, texts: Mapping[str, str]) -> Iterator[tuple[str, Prompt]]:
        """Give the packaged texts, cut to what the model takes, and a chat where it knows one.

        A text without tokens is none for a model that has no token to begin with.
        """
        for name, text in texts.items():
            prompt = self._cut(_grown(text))
            if self.encode(prompt):
                yield name, prompt
        if self._tokenizer.chat_template and len(self.encode(_CHAT)) <= self._most:
            yield "chat", list(_CHAT)

    def encode(self, prompt: Prompt) -> list[int]:
        """Return the prompt's token ids, of a text that has none the one that begins texts."""
        if isinstance(prompt, str):
            ids: list[int] = self._tokenizer(prompt)["input_ids"]
            return ids or self._first
        text = self._tokenizer.apply_chat_template(
            list(prompt), tokenize=False, add_generation_prompt=True
        )
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def case(self, name: str, prompt: Prompt) -> GenerationCase:
        """Return a golden case."""
        ids = self.encode(prompt)
        return generation_case(name, prompt, ids, self.logits(ids), self.greedy(ids, GOLDEN_TOKENS))

    def passage(self, ids: Sequence[int], number: int) -> GenerationCase:
        """Return an evaluation case, every position kept; the shorter ones are continued."""
        tokens = EVALUATION_TOKENS if len(ids) + EVALUATION_TOKENS <= self._limit else 0
        greedy = self.greedy(ids, tokens)
        return generation_case(
            f"passage {number}", "", ids, self.logits(ids), greedy, positions=None
        )

    def passages(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Give token ids of several lengths, of the texts one after the other."""
        ids = self.encode(" ".join(texts))
        flowing = itertools.cycle(ids)
        for length in sorted({min(length, self._limit) for length in _PASSAGES}):
            yield list(itertools.islice(flowing, length))

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Return the logits after each token (sequence, vocabulary)."""
        import torch

        tensor = torch.tensor([list(ids)])
        logits, _ = self._run(tensor, torch.ones_like(tensor), None)
        if not np.isfinite(logits).all():
            raise SourceError(
                "The model's logits are not finite",
                why="its weights hold NaN or infinities, or it overflows in float32",
            )
        return np.asarray(logits[0])

    def greedy(self, ids: Sequence[int], tokens: int) -> list[int]:
        """Return the likeliest next tokens, whatever ends a text among them."""
        import torch

        found: list[int] = []
        cache, given = None, list(ids)
        for _ in range(min(tokens, self._limit - len(ids))):
            mask = torch.ones(1, len(ids) + len(found), dtype=torch.int64)
            logits, cache = self._run(torch.tensor([given]), mask, cache)
            given = [int(logits[0, -1].argmax())]
            found += given
        return found

    def after(self, ids: Any, mask: Any, past: int) -> NDArray[np.float32]:
        """Return the logits of the tokens behind `past`, what is before them from the cache."""
        cache = None
        if past:
            _, cache = self._run(ids[:, :past], mask[:, :past], None)
        logits, _ = self._run(ids[:, past:], mask, cache)
        return logits

    def _run(self, ids: Any, mask: Any, cache: Any) -> tuple[NDArray[np.float32], Any]:
        import torch

        inputs = {"input_ids": ids, "attention_mask": mask}
        if self._positions:
            positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
            inputs["position_ids"] = positions[:, -ids.shape[1] :]
        with torch.inference_mode():
            found = self._model(**inputs, past_key_values=cache, use_cache=True, return_dict=True)
        return np.asarray(found.logits.float().numpy(), np.float32), found.past_key_values

    @property
    def _most(self) -> int:
        """How long a golden prompt may be."""
        return max(self._limit - GOLDEN_TOKENS, 1)

    def _cut(self, text: str) -> str:
        while text and len(self.encode(text)) > self._most:
            text = text[: max(len(text) * self._most // len(self.encode(text)), 0)]
        return text


def _grown(text: str) -> str:
    """Repeat a text marked with a trailing `...` until it is prefilled in parts."""
    if not text.endswith("..."):
        return text
    return (text[:-3] + " ") * (1 + _LONG_PROMPT // max(len(text.split()) - 1, 1))


def _write_shapes(out: Path, original: _Original, seed: int) -> None:
    import torch
    from safetensors.numpy import save_file

    tensors: dict[str, NDArray[Any]] = {}
    for number, (rows, past, new) in enumerate(_SHAPES):
        generator = torch.Generator().manual_seed(seed + number)
        ids = torch.randint(0, original.vocabulary, (rows, past + new), generator=generator)
        mask = torch.ones_like(ids)
        if rows > 1:
            mask[-1, : (past + new) // 3] = 0
        tensors[f"{number}.ids"] = ids.numpy()
        tensors[f"{number}.mask"] = mask.numpy()
        tensors[f"{number}.past"] = np.array(past, np.int64)
        tensors[f"{number}.logits"] = np.ascontiguousarray(original.after(ids, mask, past))
    save_file(tensors, out / SHAPES_NAME)


def _perplexity(cases: Sequence[GenerationCase]) -> float:
    weights = [len(case.ids) - 1 for case in cases]
    nats = sum(case.surprisal * weight for case, weight in zip(cases, weights, strict=True))
    return float(np.exp(nats / max(sum(weights), 1)))
