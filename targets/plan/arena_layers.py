"""The tensors of layers that are alike, as ONNX Runtime's arena holds them.

Where no network was gone through step by step, its sizes tell the steps of one layer. Two of them
show what a layer leaves to the next, and each that follows takes what the one before gave back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from .arena import held_bytes
from .facts import ModelFacts
from .layout_steps import HEADS, ROWS, SCORES, SEQUENCE, Step, beside, passed

_SHOWN = 2
_BIAS = "relative_attention_bias"


def layers_bytes(facts: ModelFacts, tokens: int) -> int:
    """Return the bytes of the float32 tensors of `tokens`, after two runs."""
    return held_bytes([step for _ in range(_SHOWN) for step in _layer(facts, tokens)])


def encoder_bytes(facts: ModelFacts, tokens: int) -> int:
    """Return those of the encoder that reads so many tokens of a text before a decoder writes."""
    read = replace(facts, kind="encoder", hidden=facts.encoder_hidden)
    layers = [step for _ in range(_SHOWN) for step in _layer(read, tokens)]
    if any(_BIAS in tensor.name for tensor in facts.tensors):
        layers = list(_biased(layers, facts.heads * tokens**2))
    return held_bytes(layers)


def _biased(steps: list[Step], scores: int) -> Iterator[Step]:
    """Give the steps behind a bias: beside scores that wait for it, looked up, its heads put first.

    It has the scores' shape, one of them more from its making to the last layer.
    """
    yield Step(stands=((SCORES, scores), ("looked up", scores), ("heads first", scores)))
    for step in steps:
        yield replace(step, waits=(*step.waits, ("heads first", scores)))


def _layer(facts: ModelFacts, tokens: int) -> Iterator[Step]:
    """A generator's attention keeps the cache, and a gate stands beside its feed-forward."""
    state, scores = facts.hidden * tokens, facts.heads * tokens**2
    seen, between = (_fused(state), 3) if facts.writes_text else (_attention(scores, state), 2)
    yield passed(state, state, form=SEQUENCE)
    yield from beside(seen, state, SEQUENCE)
    yield passed(state, state, form=SEQUENCE)
    yield from beside(_feed_forward(facts, tokens, between), state, SEQUENCE)


def _attention(scores: int, state: int) -> Iterator[Step]:
    """Queries, keys and values, their heads apart, the scores before and after the softmax."""
    for _ in range(3):
        yield passed(state, state, form=ROWS)
    heads = ((HEADS, state), (HEADS, state), ("turned", state))
    yield Step(stands=(*heads, (SCORES, scores), (SCORES, scores), ("together", state)))
    yield passed(state, state, form=ROWS)


def _fused(state: int) -> Iterator[Step]:
    """One operator that keeps the cache; it goes by blocks, of scores none stand in memory."""
    made = ((ROWS, state),) * 3
    yield Step(stands=made)
    yield Step(stands=(*made, (ROWS, state)))


def _feed_forward(facts: ModelFacts, tokens: int, between: int) -> Iterator[Step]:
    state, size = facts.hidden * tokens, facts.intermediate * max(1, facts.active_experts) * tokens
    yield Step(stands=((ROWS, state), (ROWS, size)))
    yield passed(*[size] * between, form=ROWS)
    yield Step(stands=((ROWS, size), (ROWS, state)))
