"""Decoding in slots, held against a plain causal computation of the whole text at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeward.errors import UnsupportedError, UsageError
from edgeward.runtimes.engines.base import Tensor
from edgeward.runtimes.tasks.decoder import open_decoder
from edgeward.runtimes.tasks.sequences import SequenceGraph
from edgeward.runtimes.tasks.slots import SlottedDecoder, calls

VOCABULARY, WIDTH, HIDDEN = 23, 8, -1e4
_RANDOM = np.random.default_rng(0)
TOKENS = _RANDOM.standard_normal((VOCABULARY, WIDTH)).astype(np.float32)
PLACES = _RANDOM.standard_normal((600, WIDTH)).astype(np.float32)
HEAD = _RANDOM.standard_normal((WIDTH, VOCABULARY)).astype(np.float32)

Floats = NDArray[np.float32]


def attended(queries: Floats, keys: Floats, seen: NDArray[np.bool_], bias: Floats) -> Floats:
    scores = queries @ keys.T + np.where(seen, 0.0, HIDDEN)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    found = (weights / weights.sum(-1, keepdims=True)) @ keys + bias
    return np.asarray(found @ HEAD, np.float32)


def plain(ids: Sequence[int], bias: Floats | float = 0.0) -> Floats:
    """Logits after each token, computed without a cache."""
    states = TOKENS[list(ids)] + PLACES[: len(ids)]
    seen = np.tril(np.ones((len(ids), len(ids)), bool))
    return attended(states, states, seen, np.asarray(bias, np.float32))


class Slots:
    """One layer of attention whose cache is an array of slots; every call is recorded."""

    def __init__(self, context: int, steps: Sequence[int]) -> None:
        self.context, self.steps = context, steps
        self.made: list[tuple[int, int]] = []
        self.told: list[int] = []
        self._logits = {size: np.zeros((1, size, VOCABULARY), np.float32) for size in steps}

    def fresh(self, held: Mapping[str, Tensor]) -> dict[str, Floats]:
        keys = np.full((self.context, WIDTH), 7.0, np.float32)
        bias = np.asarray(held.get("present.0.encoder.key", 0.0), np.float32)
        return {"keys": keys, "bias": bias}

    def call(
        self,
        size: int,
        ids: NDArray[np.int32],
        position: int,
        cache: dict[str, Floats],
        told: int | None = None,
    ) -> Floats:
        assert ids.shape == (1, size) and ids.dtype == np.int32
        assert position + size <= self.context
        self.made.append((size, position))
        states = TOKENS[ids[0]] + PLACES[position : position + size]
        cache["keys"][position : position + size] = states
        seen = np.arange(self.context) <= position + np.arange(size)[:, None]
        # One place for every call's result, as an engine's own buffer is.
        self._logits[size][0] = attended(states, cache["keys"], seen, cache["bias"])
        self.told.append(size if told is None else told)
        return self._logits[size][:, :told]


class Engine:
    """An engine's session that offers slots."""

    def __init__(self, slotted: Slots, parts: Mapping[str, object] | None = None) -> None:
        self.slotted, self.parts = slotted, parts or {}
        self.inputs, self.outputs = ("input_ids",), ("logits",)


class Reader:
    """An encoder that gives what the decoder adds to each state."""

    inputs, outputs = ("input_features",), ("present.0.encoder.key",)

    def run_prepared(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        assert list(outputs) == list(self.outputs)
        return [np.asarray(inputs["input_features"]).sum(axis=(0, 1))]


def random_ids(count: int) -> list[int]:
    return np.random.default_rng(count).integers(0, VOCABULARY, count).tolist()


@given(
    parts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    sizes=st.sets(st.integers(2, 48), max_size=3),
    spare=st.integers(0, 30),
)
def test_any_text_in_any_parts_is_the_plain_computation(
    parts: list[int], sizes: set[int], spare: int
) -> None:
    engine = Slots(sum(parts) + spare, (*sizes, 1))
    ids = random_ids(sum(parts))
    state = open_decoder(Engine(engine), {}).start()
    found, at = [], 0
    for number, count in enumerate(parts):
        given_now = ids[at : at + count]
        if number % 2:
            found.append(state.logits(given_now))
        else:
            found.append(np.full((count, VOCABULARY), np.nan, np.float32))
            found[-1][-1] = state.next_logits(given_now)
        at += count
    rows, wanted = np.concatenate(found), plain(ids)
    told = ~np.isnan(rows[:, 0])
    assert told.any()
    np.testing.assert_allclose(rows[told], wanted[told], atol=1e-3)


@given(
    tokens=st.integers(1, 400),
    spare=st.integers(0, 300),
    sizes=st.sets(st.integers(2, 256), max_size=4),
)
def test_calls_hold_the_text_within_the_room(tokens: int, spare: int, sizes: set[int]) -> None:
    listed = calls(tokens, tokens + spare, (1, *sizes))
    assert sum(call.tokens for call in listed) == tokens
    assert all(0 < call.tokens <= call.size for call in listed)
    assert all(call.tokens == call.size for call in listed[:-1])
    last = listed[-1]
    assert tokens - last.tokens + last.size <= tokens + spare


def test_a_remainder_is_padded_only_where_that_is_cheaper() -> None:
    assert calls(300, 512, (128, 1)) == [(128, 128), (128, 128), (128, 44)]
    assert calls(3, 512, (128, 1)) == [(1, 1)] * 3
    assert calls(120, 512, (128, 1)) == [(128, 120)]
    assert calls(120, 125, (128, 1)) == [(1, 1)] * 120
    assert calls(34, 512, (128, 32, 1)) == [(32, 32), (1, 1), (1, 1)]
    assert calls(52, 512, (128, 32, 1)) == [(32, 32), (32, 20)]


def test_states_do_not_share_a_cache() -> None:
    decoder = SlottedDecoder(Slots(32, (8, 1)))
    one, other = decoder.start(), decoder.start()
    ids = random_ids(20)
    one.logits(ids[:10])
    other.logits(ids[5:])
    np.testing.assert_allclose(one.next_logits(ids[10:]), plain(ids)[-1], atol=1e-3)


def test_a_step_is_one_row_without_padding() -> None:
    state = SlottedDecoder(Slots(32, (8, 1))).start()
    ids = np.array([random_ids(11)], np.int64)
    logits = state.step(ids, np.ones((1, 11), np.int64), kept=2)
    np.testing.assert_allclose(logits[0], plain(ids[0].tolist())[-2:], atol=1e-3)
    with pytest.raises(UnsupportedError, match="one text"):
        state.step(ids, np.zeros((1, 22), np.int64))
    with pytest.raises(UnsupportedError, match="one text"):
        SlottedDecoder(Slots(32, (1,))).start(2)


def test_logits_are_read_of_the_calls_that_somebody_asked_for() -> None:
    slots, ids = Slots(64, (8, 1)), random_ids(22)
    SlottedDecoder(slots).start().next_logits(ids)
    assert (slots.made, slots.told) == ([(8, 0), (8, 8), (8, 16)], [0, 0, 6])
    slots.told.clear()
    kept = SlottedDecoder(slots).start().step(np.array([ids]), kept=8)
    np.testing.assert_allclose(kept[0], plain(ids)[-8:], atol=1e-3)
    assert slots.told == [0, 8, 6]
    slots.told.clear()
    SlottedDecoder(slots).start().logits(ids)
    assert slots.told == [8, 8, 6]


def test_a_text_longer_than_the_context_is_refused_and_leaves_the_state() -> None:
    slots = Slots(16, (4, 1))
    state = SlottedDecoder(slots).start()
    ids = random_ids(16)
    state.logits(ids[:10])
    before = list(slots.made)
    with pytest.raises(UsageError, match="16 tokens") as told:
        state.next_logits(random_ids(7))
    assert "17" in told.value.why
    assert slots.made == before
    np.testing.assert_allclose(state.next_logits(ids[10:]), plain(ids)[-1], atol=1e-3)
    with pytest.raises(UsageError, match="no tokens"):
        state.logits([])


def test_an_engine_that_cannot_go_on_by_one_token_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="token by token"):
        open_decoder(Engine(Slots(64, (16, 4))), {})


def test_an_encoder_is_read_once_and_its_outputs_are_held() -> None:
    graph = SequenceGraph(Engine(Slots(64, (8, 1)), {"encoder": Reader()}))
    features = np.random.default_rng(1).standard_normal((1, 5, WIDTH)).astype(np.float32)
    target = graph.read({"input_features": features})
    ids = random_ids(21)
    found = np.concatenate([target.logits(ids[:9]), target.step(np.array([ids[9:]]))[0]])
    np.testing.assert_allclose(found, plain(ids, features.sum((0, 1))), atol=1e-3)
    with pytest.raises(UnsupportedError, match="one text"):
        graph.read({"input_features": np.repeat(features, 2, axis=0)})


def test_rows_are_read_and_written_each_in_a_cache_of_its_own() -> None:
    graph = SequenceGraph(Engine(Slots(64, (8, 1)), {"encoder": Reader()}))
    features = np.random.default_rng(2).standard_normal((3, 5, WIDTH)).astype(np.float32)
    rows = np.array([random_ids(11), random_ids(11)[::-1], random_ids(11)])
    target = graph.read_rows({"input_features": features})
    found = np.concatenate([target.step(rows[:, :4]), target.step(rows[:, 4:])], axis=1)
    for row, ids in enumerate(rows):
        wanted = plain(list(ids), features[row : row + 1].sum((0, 1)))
        np.testing.assert_allclose(found[row], wanted, atol=1e-3)
