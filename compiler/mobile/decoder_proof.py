"""What proves a front end with a cache: the untouched model's logits, in every way to call it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgeward.compiler.reference_model import load_another, load_tokenizer
from edgeward.compiler.tasks import task_spec
from edgeward.compiler.texts import proof_texts
from edgeward.errors import StageError
from edgeward.runtimes.engines.base import Tensor
from edgeward.runtimes.proof.compare import relative_difference
from edgeward.runtimes.proof.generation import kl_divergence, top1_agreement
from edgeward.runtimes.tasks.slots import Call, calls

from .decoder import CachedFront

Floats = NDArray[np.float32]
TEXT_GENERATION = "text-generation"
# Both are float32; sums are taken in another order.
LARGEST_DIFFERENCE, LARGEST_KL = 1e-3, 1e-5
_TEXT_TOKENS, _RANDOM_TOKENS, _ALONE = 256, 160, 24
_BEYOND = 8


@dataclass(frozen=True, slots=True)
class FrontProof:
    """How far the front end is from the original: the worst of all runs, and their tokens."""

    relative_difference: float
    kl_mean: float
    top1_agreement: float
    runs: int
    tokens: int


class TorchSlots:
    """Front ends of one model as an engine with slots; sizes and context are theirs."""

    def __init__(self, fronts: Sequence[CachedFront]) -> None:
        self._fronts = {front.tokens: front for front in fronts}
        self.context, self.steps = fronts[0].context, tuple(self._fronts)
        self._cache = fronts[0].cache

    def fresh(self, held: Mapping[str, Tensor]) -> dict[str, torch.Tensor]:
        """Return zeros, and what is held beside them."""
        empty = {name: torch.zeros(shape) for name, shape in self._cache.items()}
        return empty | {name: torch.from_numpy(np.asarray(value)) for name, value in held.items()}

    def call(
        self,
        size: int,
        ids: NDArray[np.int32],
        position: int,
        cache: dict[str, torch.Tensor],
        told: int | None = None,
    ) -> Floats:
        """Run one call of the front end of that size: logits (1, told, vocabulary)."""
        front = self._fronts[size]
        given = torch.from_numpy(np.ascontiguousarray(ids, np.int32))
        place = torch.tensor([position], dtype=torch.int32)
        with torch.inference_mode():
            if front.stateful:
                return _on_buffers(front, given, place, cache)[:, :told]
            named = {"input_ids": given, "position": place, **cache}
            found = front.module(*[named[name] for name in front.inputs])
        cache.update(zip(front.cache, found[1:], strict=True))
        return np.asarray(found[0].numpy(), np.float32)[:, :told]


def _on_buffers(
    front: CachedFront, ids: torch.Tensor, position: torch.Tensor, cache: dict[str, torch.Tensor]
) -> Floats:
    buffers = dict(front.module.named_buffers(recurse=False))
    for name in front.cache:
        buffers[name].copy_(cache[name])
    logits = front.module(ids, position, *[cache[name] for name in front.held])
    cache.update({name: buffers[name].clone() for name in front.cache})
    for name in front.cache:
        buffers[name].zero_()
    return np.asarray(logits.numpy(), np.float32)


def prove_decoder(front: CachedFront, folder: Path, *others: CachedFront) -> FrontProof:
    """Hold front ends of one context against the original, which is loaded anew.

    Hard texts go through the first in one piece and in two, padded; random tokens also through it
    and the others in turn, the last one by one. Raises StageError where a logit is further away
    than float32 explains.
    """
    model = load_another(folder, task_spec(TEXT_GENERATION).auto_class)
    slots, measured = TorchSlots((front, *others)), Measured()
    for ids, thorough in _texts(folder, model, front):
        with torch.inference_mode():
            wanted = model(torch.tensor([ids])).logits[0].float().numpy()
        for plan in plans(len(ids), slots, front.tokens, thorough):
            measured.add(wanted, run_plan(slots, ids, plan, {}), plan)
    return measured.proof()


class Measured:
    """Keeps the worst of what it is told; StageError where that is too far."""

    def __init__(self) -> None:
        self._worst, self._kl, self._agreement = 0.0, 0.0, 1.0
        self._runs, self._tokens = 0, 0

    def add(self, wanted: Floats, found: Floats, plan: Sequence[Call]) -> None:
        """Compare the logits of one run with the original's, (tokens, vocabulary) each."""
        difference = relative_difference(wanted, found)
        divergence = float(np.mean(kl_divergence(wanted, found)))
        if not (difference <= LARGEST_DIFFERENCE and divergence <= LARGEST_KL):
            sizes = ", ".join(f"{call.tokens} in {call.size}" for call in plan[:6])
            raise StageError(
                "The mobile form of the model does not compute what the model computes",
                why=f"{len(found)} tokens as {sizes}: relative difference {difference:.2g}, "
                f"KL {divergence:.2g}",
            )
        self._worst, self._kl = max(self._worst, difference), max(self._kl, divergence)
        self._agreement = min(self._agreement, top1_agreement(wanted, found))
        self._runs, self._tokens = self._runs + 1, self._tokens + len(found)

    def proof(self) -> FrontProof:
        """Return what was found."""
        return FrontProof(self._worst, self._kl, self._agreement, self._runs, self._tokens)


def run_plan(
    slots: TorchSlots, ids: Sequence[int], plan: Sequence[Call], held: Mapping[str, Tensor]
) -> Floats:
    """Run ids in such calls; return the logits of each (tokens, vocabulary)."""
    cache, done, found = slots.fresh(held), 0, []
    for call in plan:
        given = np.zeros((1, call.size), np.int32)
        given[0, : call.tokens] = ids[done : done + call.tokens]
        found.append(slots.call(call.size, given, done, cache)[0, : call.tokens].copy())
        done += call.tokens
    return np.concatenate(found)


def plans(tokens: int, slots: TorchSlots, size: int, thorough: bool) -> Iterator[list[Call]]:
    """Ways to call for a text: whole, in two uneven pieces, by every size, the last one by one."""
    yield _cut(tokens, size)
    first = tokens // 3
    if first:
        yield [*_cut(first, size), *_cut(tokens - first, size)]
    if thorough and 1 in slots.steps and size > 1:
        yield calls(tokens, slots.context, slots.steps)
        alone = min(tokens, _ALONE)
        yield [*_cut(tokens - alone, size), *[Call(1, 1)] * alone]


def _cut(tokens: int, size: int) -> list[Call]:
    whole, left = divmod(tokens, size)
    return [Call(size, size)] * whole + ([Call(size, left)] if left else [])


def _texts(folder: Path, model: Any, front: CachedFront) -> Iterator[tuple[list[int], bool]]:
    """Hard texts, and random tokens up to the end of the context or beyond a window."""
    tokenizer = load_tokenizer(folder)
    each = [tokenizer(text)["input_ids"] for text in proof_texts().golden.values()]
    length = min(_TEXT_TOKENS, front.context)
    yield min(filter(None, each), key=len)[:length], False
    yield list(itertools.chain.from_iterable(each))[:length], False
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None) or getattr(config, "window_size", None) or 0
    length = min(max(_RANDOM_TOKENS, window + _BEYOND), front.context)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, int(config.vocab_size), (length,), generator=generator)
    yield ids.tolist(), True
