"""docs/precisions.md is what the formats' bits and the profiles say."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from documents import ROOT

from edgeward.compiler.precisions import FLOATS, FloatFormat, precisions_page

TYPES = {
    "fp32": np.float32,
    "fp16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "fp8 e5m2": ml_dtypes.float8_e5m2,
    "fp8 e4m3fn": ml_dtypes.float8_e4m3fn,
    "fp6 e3m2": ml_dtypes.float6_e3m2fn,
    "fp6 e2m3": ml_dtypes.float6_e2m3fn,
    "fp4 e2m1": ml_dtypes.float4_e2m1fn,
    "e8m0 (scales)": ml_dtypes.float8_e8m0fnu,
}


def test_the_page_is_written_again() -> None:
    assert (ROOT / "docs" / "precisions.md").read_text("utf-8") == precisions_page()


@pytest.mark.parametrize("one", [f for f in FLOATS if f.name in TYPES], ids=lambda f: f.name)
def test_bits_and_ranges_are_those_of_the_types(one: FloatFormat) -> None:
    info = ml_dtypes.finfo(TYPES[one.name])
    assert one.largest == float(info.max)
    assert one.least_normal == float(info.smallest_normal)
    assert one.mantissa == info.nmant
    if one.least is not None:
        assert one.least == float(info.smallest_subnormal)
    assert one.sign + one.exponent + one.mantissa == info.bits


@pytest.mark.parametrize("one", [f for f in FLOATS if f.name in TYPES], ids=lambda f: f.name)
def test_what_they_hold_besides_numbers_is_so(one: FloatFormat) -> None:
    bits = one.sign + one.exponent + one.mantissa
    if bits > 8:
        assert one.special == "ieee"
        return
    codes = np.arange(1 << bits, dtype=np.uint8).view(TYPES[one.name]).astype(np.float64)
    assert bool(np.isinf(codes).any()) == (one.special == "ieee")
    assert bool(np.isnan(codes).any()) == (one.special != "none")
    assert (0.0 in codes) == (one.special != "scale")


def test_tf32_has_the_range_of_fp32_and_the_precision_of_fp16() -> None:
    tf32 = next(one for one in FLOATS if one.name == "tf32")
    assert math.isclose(tf32.largest, 2.0**127 * (2 - 2**-10))
