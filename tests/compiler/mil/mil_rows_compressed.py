"""How weights are compressed, for every operator that holds compressed weights."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Compressed:
    """An expression of coremltools' optimisation (`cto`) on a model, and what it leaves."""

    name: str
    opset: str
    how: str
    operators: tuple[str, ...]


_AFFINE = ("constexpr_affine_dequantize",)
_LUT = ("constexpr_lut_to_dense",)
_SHIFT = ("constexpr_blockwise_shift_scale",)
_SPARSE = ("constexpr_sparse_to_dense",)

COMPRESSED = (
    Compressed("int8", "iOS16", "linear(model, mode='linear_symmetric')", _AFFINE),
    Compressed("int8_zero", "iOS16", "linear(model, mode='linear')", _AFFINE),
    Compressed("int8_tensor", "iOS17", "linear(model, granularity='per_tensor')", _AFFINE),
    Compressed("lut8", "iOS16", "palette(model, nbits=8, mode='uniform')", _LUT),
    Compressed("lut6", "iOS16", "palette(model, nbits=6)", _LUT),
    Compressed("lut4", "iOS17", "palette(model, nbits=4)", _LUT),
    Compressed("lut1", "iOS16", "palette(model, nbits=1)", _LUT),
    Compressed("sparse", "iOS16", "prune(model)", _SPARSE),
    Compressed("int8_18", "iOS18", "linear(model)", _SHIFT),
    Compressed("int4_block", "iOS18", "linear(model, dtype='int4', **BLOCK)", _SHIFT),
    Compressed(
        "uint4_zero", "iOS18", "linear(model, dtype='uint4', mode='linear', **BLOCK)", _SHIFT
    ),
    Compressed("lut4_18", "iOS18", "palette(model, nbits=4)", _LUT),
    Compressed("lut3_18", "iOS18", "palette(model, nbits=3)", _LUT),
    Compressed("lut4_group", "iOS18", "palette(model, nbits=4, **GROUP)", _LUT),
    Compressed(
        "lut4_scaled",
        "iOS18",
        "palette(model, nbits=4, enable_per_channel_scale=True)",
        (*_LUT, *_SHIFT),
    ),
    Compressed("lut2_vector", "iOS18", "palette(model, nbits=2, cluster_dim=2)", _LUT),
    Compressed("sparse_18", "iOS18", "prune(model)", _SPARSE),
    Compressed(
        "lut_int8",
        "iOS18",
        "linear(palette(model, nbits=4), granularity='per_tensor', joint_compression=True)",
        (*_LUT, *_SHIFT),
    ),
    Compressed(
        "sparse_lut",
        "iOS18",
        "palette(prune(model), nbits=4, joint_compression=True)",
        ("constexpr_lut_to_sparse", *_SPARSE),
    ),
    Compressed(
        "sparse_int8",
        "iOS18",
        "linear(prune(model), joint_compression=True)",
        ("constexpr_sparse_blockwise_shift_scale", *_SPARSE),
    ),
)
