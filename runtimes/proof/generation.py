"""How far a generator's next-token distributions are from the original's.

Golden cases keep, at the last positions of each prompt, the original's likeliest tokens with their
log-probabilities: a few hundred kilobytes instead of the whole vocabulary at every position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeward.runtimes.engines.base import Tensor
from edgeward.runtimes.session import Session
from edgeward.runtimes.tasks.chat import Message, check_messages

from .case_files import Tensors, read_listed, write_listed

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Prompt = str | Sequence[Message]
TOP_TOKENS = 256
TYPICAL_TOKENS = 8
WORST_DIVERGENCE = 1e6
WORST_SURPRISAL = 100.0
_LEAST_SHARE = 1e-30


class Continues(Protocol):
    """What is measured: something that continues tokens."""

    def logits(self, ids: Sequence[int]) -> Floats:
        """Return the logits after each token, (sequence, vocabulary)."""

    def continued(self, ids: Sequence[int], tokens: int) -> list[int]:
        """Return the likeliest next tokens."""


class Logits(Continues, Protocol):
    """A generator of texts."""

    def encode(self, prompt: Prompt) -> list[int]:
        """Return the prompt's token ids."""


@dataclass(frozen=True, slots=True)
class GenerationCase:
    """A text or a chat's messages, their ids, and what the original made of them.

    `surprisal` is the original's mean negative log-likelihood of ids[1:] in nats, 0 for one token.
    `top_ids` int32 and `top_shares` float32 natural log-probabilities, both (positions, tokens),
    likeliest first, stand for the last positions; `greedy` is the likeliest continuation.
    """

    name: str
    prompt: Prompt
    ids: tuple[int, ...]
    top_ids: NDArray[np.int32]
    top_shares: Floats
    greedy: tuple[int, ...]
    surprisal: float


def kl_divergence(reference_logits: Floats, logits: Floats) -> float:
    """Return the mean Kullback-Leibler divergence in nats over rows of logits (n, vocabulary).

    Rows that are not finite, or other shapes, count as WORST_DIVERGENCE.
    """
    if reference_logits.shape != logits.shape or not logits.size:
        return WORST_DIVERGENCE
    wanted, found = log_shares(reference_logits), log_shares(logits)
    with np.errstate(invalid="ignore"):
        terms = np.where(np.isneginf(wanted), 0.0, np.exp(wanted) * (wanted - found))
    return float(_bounded(terms.sum(axis=1)).mean())


def top1_agreement(reference_logits: Floats, logits: Floats) -> float:
    """Return the share of rows (n, vocabulary) whose likeliest token is the same."""
    if reference_logits.shape != logits.shape or not logits.size:
        return 0.0
    return float((reference_logits.argmax(axis=1) == logits.argmax(axis=1)).mean())


def perplexity(logits: Floats, ids: Sequence[int]) -> float:
    """Return exp of the mean negative log-likelihood of ids[1:] under logits (tokens, vocabulary).

    Jelinek et al. 1977; row n tells token n + 1. At most exp(WORST_SURPRISAL); 1 where there are
    fewer than two tokens.
    """
    return float(np.exp(surprisal(logits, ids)))


def surprisal(logits: Floats, ids: Sequence[int]) -> float:
    """Return the mean negative log-likelihood in nats of ids[1:], as `perplexity` takes them."""
    following = np.asarray(ids, np.int64)[1:]
    if not len(following):
        return 0.0
    shares = log_shares(logits[: len(following)])[np.arange(len(following)), following]
    mean = float(-shares.mean())
    return min(mean, WORST_SURPRISAL) if np.isfinite(mean) else WORST_SURPRISAL


def greedy_agreement(reference: Sequence[int], ids: Sequence[int]) -> float:
    """Return the share of the reference's tokens that are equal before the first that differs."""
    if not len(reference):
        return 1.0
    equal = 0
    for wanted, found in zip(reference, ids, strict=False):
        if wanted != found:
            break
        equal += 1
    return equal / len(reference)


def log_shares(logits: Floats) -> Doubles:
    """Return natural log-probabilities of rows of logits, float64."""
    rows = np.asarray(logits, np.float64)
    with np.errstate(invalid="ignore"):
        shifted = rows - rows.max(axis=-1, keepdims=True)
        shares: Doubles = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shares


def generation_case(
    name: str,
    prompt: Prompt,
    ids: Sequence[int],
    logits: Floats,
    greedy: Sequence[int],
    *,
    positions: int | None = 16,
    tokens: int = TOP_TOKENS,
) -> GenerationCase:
    """Keep what a case needs of the original's logits (len(ids), vocabulary).

    `positions` None keeps all of them.
    """
    shares = log_shares(logits if positions is None else logits[-positions:])
    order = np.argsort(-shares, axis=1, kind="stable")[:, :tokens]
    kept = np.take_along_axis(shares, order, axis=1)
    return GenerationCase(
        name,
        prompt,
        tuple(ids),
        order.astype(np.int32),
        kept.astype(np.float32),
        tuple(greedy),
        surprisal(logits, ids),
    )


def kept_divergence(case: GenerationCase, logits: Floats) -> Doubles:
    """Return the divergence in nats at each kept position, all other tokens taken as one.

    Taking tokens together can only lower it: this is a bound from below.
    """
    found = log_shares(logits[-len(case.top_ids) :])
    found_top = np.take_along_axis(found, case.top_ids.astype(np.int64), axis=1)
    wanted = np.exp(case.top_shares.astype(np.float64))
    with np.errstate(invalid="ignore"):
        inside = (wanted * (case.top_shares - found_top)).sum(axis=1)
        rest, found_rest = _rest(wanted), _rest(np.exp(found_top))
        outside = rest * (np.log(rest) - np.log(found_rest))
    return _bounded(np.maximum(inside + outside, 0.0))


def generation_metrics(generator: Logits, cases: Sequence[GenerationCase]) -> dict[str, float]:
    """Run every case in one generator, as `distribution_metrics` does."""
    return distribution_metrics((generator, case) for case in cases)


def distribution_metrics(told: Iterable[tuple[Continues, GenerationCase]]) -> dict[str, float]:
    """Run every case: divergence mean and largest, top-1, greedy continuation, perplexity.

    `perplexity_ratio` is over the original's, every token weighing the same.
    """
    divergences: list[Doubles] = []
    likeliest: list[NDArray[np.bool_]] = []
    greedy: list[float] = []
    surplus, tokens = 0.0, 0
    for generator, case in told:
        logits = generator.logits(case.ids)
        divergences.append(kept_divergence(case, logits))
        likeliest.append(logits[-len(case.top_ids) :].argmax(axis=1) == case.top_ids[:, 0])
        if case.greedy:
            continued = generator.continued(case.ids, len(case.greedy))
            greedy.append(greedy_agreement(case.greedy, continued))
        surplus += (surprisal(logits, case.ids) - case.surprisal) * (len(case.ids) - 1)
        tokens += len(case.ids) - 1
    every = np.concatenate(divergences)
    return {
        "kl_mean": float(every.mean()),
        "kl_max": float(every.max()),
        "top1_agreement": float(np.concatenate(likeliest).mean()),
        "greedy_agreement": float(np.mean(greedy)) if greedy else 1.0,
        "greedy_agreement_min": min(greedy, default=1.0),
        "perplexity_ratio": float(np.exp(min(surplus / max(tokens, 1), WORST_SURPRISAL))),
    }


def golden_metrics(generator: Logits, cases: Sequence[GenerationCase]) -> dict[str, float]:
    """Do what `generation_metrics` does, and tell the share of prompts whose ids are equal."""
    equal = [generator.encode(case.prompt) == list(case.ids) for case in cases]
    found = generation_metrics(generator, cases)
    return {**found, "token_ids_equal": sum(equal) / len(equal)}


def metrics(session: Session, cases: Sequence[GenerationCase]) -> dict[str, float]:
    """Run every case in the session's engine."""
    return golden_metrics(session.generator, cases)


def request(session: Session, cases: Sequence[GenerationCase]) -> Callable[[], object]:
    """Return one typical request: some tokens after the prompt of middle length."""
    generator, case = session.generator, typical(cases)
    return lambda: generator.continued(case.ids, TYPICAL_TOKENS)


def sample(folder: Path) -> Mapping[str, Tensor]:
    """Return what a prompt of middle length gives the graph, its past empty and left out."""
    ids = np.array([typical(read_cases(folder)).ids], np.int64)
    mask = np.ones_like(ids)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": mask.cumsum(axis=1) - 1}


def typical(cases: Sequence[GenerationCase]) -> GenerationCase:
    """Return the case of middle length."""
    return sorted(cases, key=lambda case: len(case.ids))[len(cases) // 2]


def count(cases: Sequence[GenerationCase]) -> int:
    """How many cases there are."""
    return len(cases)


def write_cases(folder: Path, cases: Sequence[GenerationCase]) -> None:
    """Write both files below `folder`, under the names that a bundle gives them."""
    tensors: Tensors = {}
    for number, case in enumerate(cases):
        tensors |= case_tensors(case, number)
    write_listed(folder, [stated_case(case) for case in cases], tensors)


def read_cases(folder: Path) -> tuple[GenerationCase, ...]:
    """Read both files; IntegrityError where they are damaged or do not belong together."""
    return read_listed(folder, read_case)


def stated_case(case: GenerationCase) -> dict[str, Any]:
    """Return a case's part of cases.json."""
    return {
        "name": case.name,
        "prompt": case.prompt,
        "ids": list(case.ids),
        "greedy": list(case.greedy),
        "surprisal": case.surprisal,
    }


def case_tensors(case: GenerationCase, number: int) -> Tensors:
    """Return the tensors of the case of that number."""
    return {
        f"{number}.ids": np.ascontiguousarray(case.top_ids),
        f"{number}.shares": np.ascontiguousarray(case.top_shares),
    }


def read_case(stated: Any, tensors: Tensors, number: int) -> GenerationCase:
    """Return the case of that number; ValueError, KeyError or TypeError where it is damaged."""
    top_ids, shares = tensors[f"{number}.ids"], tensors[f"{number}.shares"]
    ids, greedy = _tokens(stated["ids"]), _tokens(stated["greedy"])
    fits = top_ids.ndim == 2 and top_ids.shape == shares.shape and top_ids.size
    if not fits or top_ids.dtype != np.int32 or top_ids.min() < 0 or len(top_ids) > len(ids):
        raise ValueError(f"case {number} does not fit its reference")
    if shares.dtype != np.float32 or not np.isfinite(shares).all() or shares.max() > 1e-3:
        raise ValueError(f"case {number} has no log-probabilities")
    prompt, nats = stated["prompt"], float(stated["surprisal"])
    if not isinstance(prompt, str):
        prompt = check_messages(prompt)
    if not 0 <= nats <= WORST_SURPRISAL:
        raise ValueError(f"case {number} has no surprisal")
    return GenerationCase(str(stated["name"]), prompt, ids, top_ids, shares, greedy, nats)


def _tokens(listed: Any) -> tuple[int, ...]:
    tokens = tuple(listed)
    if not all(type(token) is int and token >= 0 for token in tokens):
        raise ValueError("a token id is no whole number")
    return tokens


def _rest(shares: Doubles) -> Doubles:
    rest: Doubles = np.maximum(1.0 - shares.sum(axis=1), _LEAST_SHARE)
    return rest


def _bounded(divergences: Doubles) -> Doubles:
    safe: Doubles = np.nan_to_num(divergences, nan=WORST_DIVERGENCE, posinf=WORST_DIVERGENCE)
    return np.minimum(safe, WORST_DIVERGENCE)
