"""The page of number formats, docs/precisions.md: what each holds, and which target takes which."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from edgeward.targets.load import load, names
from edgeward.targets.profile import DTYPES, Profile

from .formats.compressed_schemes import ENGINE_PRECISIONS, SCHEMES

Special = Literal["ieee", "nan", "none", "scale"]


@dataclass(frozen=True, slots=True)
class FloatFormat:
    """A binary floating-point format by its bits.

    `special` says what its largest exponent holds: infinities and NaN as in IEEE 754, NaN in one
    code alone (`nan`), nothing but numbers (`none`), or, for a power of two without a mantissa,
    NaN in its last code and no zero (`scale`).
    """

    name: str
    sign: int
    exponent: int
    mantissa: int
    bias: int
    special: Special
    source: str

    @property
    def largest(self) -> float:
        """The largest finite value."""
        top = (1 << self.exponent) - 1 - self.bias
        if self.special in ("ieee", "scale"):
            top -= 1
        fractions = (1 << self.mantissa) - 1 - (self.special == "nan")
        return float(2.0**top * (1 + fractions / (1 << self.mantissa)))

    @property
    def least_normal(self) -> float:
        """The smallest value with all its bits of precision."""
        return float(2.0 ** (0 if self.special == "scale" else 1)) * 2.0**-self.bias

    @property
    def least(self) -> float | None:
        """The smallest value above zero, None where there are no subnormals."""
        return None if self.special == "scale" else self.least_normal * 2.0**-self.mantissa


_IEEE, _OCP8 = "IEEE 754-2019", "OCP 8-bit Floating Point (OFP8) 1.0"
_MX = "OCP Microscaling Formats (MX) 1.0"
FLOATS = (
    FloatFormat("fp32", 1, 8, 23, 127, "ieee", _IEEE),
    FloatFormat("tf32", 1, 8, 10, 127, "ieee", "NVIDIA A100 white paper"),
    FloatFormat("bf16", 1, 8, 7, 127, "ieee", "Intel BFLOAT16 numerics definition"),
    FloatFormat("fp16", 1, 5, 10, 15, "ieee", _IEEE),
    FloatFormat("fp8 e5m2", 1, 5, 2, 15, "ieee", _OCP8),
    FloatFormat("fp8 e4m3fn", 1, 4, 3, 7, "nan", _OCP8),
    FloatFormat("fp6 e3m2", 1, 3, 2, 3, "none", _MX),
    FloatFormat("fp6 e2m3", 1, 2, 3, 1, "none", _MX),
    FloatFormat("fp4 e2m1", 1, 2, 1, 1, "none", _MX),
    FloatFormat("e8m0 (scales)", 0, 8, 0, 127, "scale", _MX),
)
_SPECIALS = {"ieee": "infinities, NaN", "nan": "NaN", "none": "neither", "scale": "NaN, no zero"}
_INTEGERS = (("int8", -128, 127), ("int4", -8, 7))
_SATURATION = (
    "",
    "x86 processors without VNNI add pairs of 8-bit products in 16 bits, which overflow.",
    "The runtime has ONNX Runtime sum exactly there, so that a file answers as it was proved.",
    "An app that opens an int8 ONNX file by itself sets `session.x64quantprecision` to 1 for that:",
    "there alone, since with VNNI it answers the same and takes twice as long.",
)
_WHAT = {
    "fp8-dynamic": "e4m3fn, a scale a row; activations e4m3fn, a scale a token, found as it runs",
    "fp8-static": "e4m3fn, a scale a layer; activations e4m3fn, a scale a layer, calibrated",
    "w8a8": "int8, a scale a row, SmoothQuant and GPTQ; activations int8, a scale a token",
    "w4a16-gptq": "int4, a scale for 128, 64 or 32 columns, rounded by GPTQ; activations 16 bits",
    "w4a16-awq": "int4 as above, channels balanced by AWQ; activations 16 bits",
    "w4a16-rtn": "int4 as above, to the nearest; activations 16 bits",
    "nvfp4": "e2m1, an e4m3fn scale for 16 columns and one a layer; activations alike",
    "nvfp4a16": "e2m1 as nvfp4; activations 16 bits",
    "mxfp4": "e2m1, an e8m0 scale for 32 columns; activations alike",
}
_HEAD = """# Precisions

Number formats, what the precisions of compressed checkpoints make of them, and what each target
takes. `compiler/precisions.py` writes this page from the formats' bits and the profiles.

## Floating point

A value is (-1)^sign x 2^(exponent - bias) x 1.mantissa; subnormals have 0.mantissa and the
exponent of the smallest normal. e4m3fn gives up infinities for a wider range: what overflows has
to be clamped by who rounds.
"""


def precisions_page() -> str:
    """Return the page."""
    profiles = [load(name) for name in sorted(names())]
    return "\n".join([_HEAD, *_floats(), *_integers(), *_schemes(), *_targets(profiles), ""])


def _floats() -> list[str]:
    columns = ("format", "sign", "exponent", "mantissa", "bias", "largest", "least normal")
    rows = [
        (
            each.name, each.sign, each.exponent, each.mantissa, each.bias, _number(each.largest),
            _number(each.least_normal), _number(each.least), _SPECIALS[each.special], each.source,
        )
        for each in FLOATS
    ]  # fmt: skip
    return _table((*columns, "least subnormal", "has", "defined in"), rows)


def _integers() -> list[str]:
    head = ["", "## Integers", "", "Two's complement, a number is the integer times its scale.", ""]
    return [*head, *_table(("format", "least", "largest"), _INTEGERS), *_SATURATION]


def _schemes() -> list[str]:
    columns = ("precision", "weights and activations", *ENGINE_PRECISIONS)
    rows = [
        (
            name,
            _WHAT[name],
            *("yes" if name in taken else "" for taken in ENGINE_PRECISIONS.values()),
        )
        for name in SCHEMES
    ]
    head = [
        "",
        "## Compressed checkpoints (`--format compressed`)",
        "",
        "Embeddings and the head stay in 16 bits. The last columns say which engine loads it;",
        "TensorRT-LLM's are written by ModelOpt, the others by llm-compressor.",
        "",
    ]
    return [*head, *_table(columns, rows)]


def _targets(profiles: Iterable[Profile]) -> list[str]:
    rows = []
    for profile in profiles:
        rates = {dtype for unit in profile.hardware.units for dtype in unit.rates}
        listed = profile.formats.items()
        taken = "; ".join(f"{name}: {', '.join(found)}" for name, found in listed)
        rows.append((profile.name, ", ".join(d for d in DTYPES if d in rates), taken))
    head = [
        "",
        "## Targets",
        "",
        "What has a rate in the profile, and what is compiled for it.",
        "",
    ]
    return [*head, *_table(("target", "computes in", "precisions"), rows)]


def _table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
    names_ = list(columns)
    lines = [" | ".join(str(cell) for cell in row) for row in rows]
    return [f"| {' | '.join(names_)} |", "|---" * len(names_) + "|", *(f"| {x} |" for x in lines)]


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"
