"""Picking the next token: filters, their order, seeds, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgeward.errors import EngineError, UsageError
from edgeward.runtimes.tasks.sampling import Sampler, Sampling, penalised, probabilities

LOGITS = arrays(np.float32, st.integers(2, 60), elements=st.floats(-30, 30, width=32), unique=True)
Logits = NDArray[np.float32]


def shares(logits: Logits, **options: Any) -> NDArray[np.float64]:
    return probabilities(logits.astype(np.float64), Sampling(**{"temperature": 1.0, **options}))


def softmax(logits: Logits) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(powers / powers.sum())


@given(LOGITS)
def test_temperature_zero_takes_the_likeliest(logits: Logits) -> None:
    assert Sampler(Sampling(top_p=0.5, top_k=3))(logits) == int(logits.argmax())


@given(LOGITS, st.floats(0.1, 5))
def test_shares_are_the_softmax_at_a_temperature(logits: Logits, temperature: float) -> None:
    found = shares(logits, temperature=temperature)
    np.testing.assert_allclose(found, softmax((logits / temperature).astype(np.float64)), atol=1e-5)


@given(LOGITS, st.integers(1, 60))
def test_top_k_keeps_the_k_likeliest(logits: Logits, top_k: int) -> None:
    apart = logits.astype(np.float64) - logits.max()
    assume(len(np.unique(apart)) == len(apart))
    kept = set(np.argsort(-logits)[:top_k])
    found = shares(logits, top_k=top_k, temperature=10.0)
    assert set(np.flatnonzero(found)) == kept
    assert found.sum() == pytest.approx(1)


@given(LOGITS, st.floats(0.01, 0.999))
def test_top_p_keeps_the_fewest_that_reach_it(logits: Logits, top_p: float) -> None:
    whole = softmax(logits)
    kept = np.flatnonzero(shares(logits, top_p=top_p))
    assert whole[kept].sum() >= top_p - 1e-9
    assert whole[kept].sum() - whole[kept].min() < top_p + 1e-9
    others = np.delete(whole, kept)
    assert not others.size or others.max() <= whole[kept].min()


@given(LOGITS, st.floats(0.01, 1))
def test_min_p_drops_what_is_far_below_the_likeliest(logits: Logits, min_p: float) -> None:
    whole = softmax(logits)
    kept = set(np.flatnonzero(shares(logits, min_p=min_p)))
    assert {n for n in range(len(whole)) if whole[n] > min_p * whole.max() * 1.0001} <= kept
    assert kept <= {n for n in range(len(whole)) if whole[n] > min_p * whole.max() * 0.9999}


def test_top_k_comes_before_top_p() -> None:
    logits = np.log(np.array([0.4, 0.3, 0.2, 0.1], np.float32))
    assert set(np.flatnonzero(shares(logits, top_k=2, top_p=0.6))) == {0, 1}
    assert set(np.flatnonzero(shares(logits, top_k=2, top_p=0.5))) == {0}


@given(LOGITS, st.integers(0, 2**40))
def test_a_seed_repeats(logits: Logits, seed: int) -> None:
    def draw() -> list[int]:
        sampler = Sampler(Sampling(temperature=2.0, seed=seed))
        return [sampler(logits) for _ in range(20)]

    assert draw() == draw()


def test_tokens_are_drawn_as_often_as_their_shares_say() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.0001, 0.1999], np.float32))
    sampler = Sampler(Sampling(temperature=1.0, seed=3))
    drawn = np.bincount([sampler(logits) for _ in range(4000)], minlength=4) / 4000
    np.testing.assert_allclose(drawn, softmax(logits), atol=0.03)


@given(LOGITS, st.floats(0.1, 1.0), st.integers(0, 2**31))
def test_a_filtered_token_is_never_drawn(logits: Logits, top_p: float, seed: int) -> None:
    sampler = Sampler(Sampling(temperature=1.0, top_p=top_p, seed=seed))
    allowed = set(np.flatnonzero(shares(logits, top_p=top_p)))
    assert {sampler(logits) for _ in range(20)} <= allowed


def test_the_repetition_penalty_makes_what_was_seen_less_likely() -> None:
    scores = np.array([2.0, -2.0, 1.0])
    np.testing.assert_allclose(penalised(scores, {0, 1, 99, -1}, 2.0), [1.0, -4.0, 1.0])
    np.testing.assert_array_equal(scores, [2.0, -2.0, 1.0])
    assert Sampler(Sampling(repetition_penalty=3.0))(scores, [0]) == 2


def test_masked_tokens_are_allowed_and_never_drawn() -> None:
    logits = np.array([-np.inf, 0.0, -np.inf], np.float32)
    sampler = Sampler(Sampling(temperature=5.0, seed=0))
    assert {sampler(logits) for _ in range(50)} == {1}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_an_error(bad: float) -> None:
    with pytest.raises(EngineError, match="not finite"):
        Sampler(Sampling())(np.array([0.0, bad], np.float32))
    with pytest.raises(EngineError):
        Sampler(Sampling())(np.array([-np.inf, -np.inf], np.float32))


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_k": -1},
        {"top_k": 1.5},
        {"top_k": True},
        {"top_p": 0},
        {"top_p": 1.1},
        {"min_p": -0.1},
        {"min_p": 2},
        {"repetition_penalty": 0},
        {"seed": -1},
        {"seed": 2**63},
    ],
)
def test_odd_settings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        Sampling(**options)
