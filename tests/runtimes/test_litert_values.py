"""What a session feeds a TFLite graph and gives back: types, scales, what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.errors import UsageError
from edgeward.runtimes.engines.litert_values import Port, ports_of

IDS = Port("ids", (1, 3), np.dtype(np.int32))
PIXELS = Port("pixels", (3,), np.dtype(np.int8), scale=0.5, zero=3)


def test_ids_become_what_the_graph_has() -> None:
    fed = IDS.fed(np.array([[1, 2, 3]], np.int64))
    assert fed.dtype == np.int32
    assert fed.tolist() == [[1, 2, 3]]
    assert IDS.fed(np.array([[True, False, True]])).tolist() == [[1, 0, 1]]


@pytest.mark.parametrize(
    "given_",
    [
        np.array([[1, 2, 1 << 40]], np.int64),
        np.array([[1.5, 2, 3]]),
        np.array([[1, 2]], np.int64),
        np.array([["a", "b", "c"]]),
    ],
)
def test_what_the_graph_cannot_hold_is_refused(given_: np.ndarray) -> None:
    with pytest.raises(UsageError, match="do not fit"):
        IDS.fed(given_)


def test_floats_are_rounded_by_the_graphs_own_scale() -> None:
    assert PIXELS.fed(np.array([0.0, 1.0, -0.5], np.float32)).tolist() == [3, 5, 2]
    assert PIXELS.fed(np.array([1e9, -1e9, 0.0])).tolist() == [127, -128, 3]
    assert PIXELS.fed(np.array([1, 2, 3], np.int8)).tolist() == [1, 2, 3]


@given(st.lists(st.floats(-60, 60), min_size=3, max_size=3))
def test_what_was_rounded_comes_back_within_half_a_step(values: list[float]) -> None:
    array = np.array(values, np.float32)
    back = PIXELS.told(PIXELS.fed(array))
    assert back.dtype == np.float32
    assert np.abs(back - array).max() <= 0.2501


def test_an_output_without_a_scale_stays_as_it_is() -> None:
    value = np.array([[4, 5, 6]], np.int32)
    assert IDS.told(value) is value


def test_a_scale_for_each_channel_is_no_outputs() -> None:
    told = {"scales": np.array([0.5, 0.25]), "zero_points": np.array([0, 0])}
    (port,) = ports_of({"y": {"shape": [2], "dtype": np.int8, "quantization_parameters": told}})
    assert port.scale == 0.0
