from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.compiler.stage import StageInput, StageSpec, stage_key
from edgeward.runtimes.bundle.canonical import canonical_bytes

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=10,
)
params = st.dictionaries(st.text(max_size=6), json_values, max_size=5)

SPEC = StageSpec(
    name="export",
    call="package.module:function",
    version=1,
    inputs={"source": StageInput(Path("/a"), "d1"), "text": StageInput(Path("/b"), "d2")},
    params={"opset": 20},
    toolchain="onnx",
)


def shuffled(value):
    """Return an equal value whose dicts were filled the other way round."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(list(value))}
    if isinstance(value, list):
        return [shuffled(item) for item in value]
    return value


@given(params)
def test_the_order_of_parameters_and_inputs_does_not_matter(given_params):
    one = replace(SPEC, params=given_params)
    other = replace(
        SPEC, params=shuffled(given_params), inputs=dict(reversed(list(SPEC.inputs.items())))
    )
    assert stage_key(one, "t") == stage_key(other, "t")


@given(params, params)
def test_other_parameters_make_another_key(one, other):
    same = canonical_bytes(one) == canonical_bytes(other)
    keys = {stage_key(replace(SPEC, params=p), "t") for p in (one, other)}
    assert (len(keys) == 1) == same


@pytest.mark.parametrize(
    "change",
    [
        {"name": "quantise"},
        {"call": "package.module:other"},
        {"version": 2},
        {"params": {"opset": 21}},
        {"params": {"opset": "20"}},
        {"params": {"opset": 20, "more": None}},
        {"inputs": {"source": StageInput(Path("/a"), "d1")}},
        {"inputs": {"source": StageInput(Path("/a"), "d3"), "text": SPEC.inputs["text"]}},
        {"inputs": {"source": SPEC.inputs["text"], "text": SPEC.inputs["source"]}},
    ],
)
def test_whatever_decides_the_result_changes_the_key(change):
    assert stage_key(replace(SPEC, **change), "t") != stage_key(SPEC, "t")


def test_the_toolchain_changes_the_key():
    assert stage_key(SPEC, "t") != stage_key(SPEC, "u")


def test_paths_and_estimates_do_not_change_the_key():
    moved = {name: replace(one, path=Path("/moved")) for name, one in SPEC.inputs.items()}
    assert stage_key(replace(SPEC, inputs=moved, estimate_bytes=5), "t") == stage_key(SPEC, "t")


def test_the_key_is_the_same_in_every_release():
    known = "870fad27b2051ee8d85141041c0c48d8d137c165daa38ebc7f7e38c4edce7623"
    assert stage_key(SPEC, "t") == known


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), b"bytes", {1: "x"}, object(), {1, 2}])
def test_what_is_not_json_is_refused(bad):
    with pytest.raises((TypeError, ValueError)):
        stage_key(replace(SPEC, params={"deep": [bad]}), "t")
