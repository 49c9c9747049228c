"""Which weights llama.cpp packs anew for the instructions of the processor that it runs on.

Where a file is mapped its own pages stay beside what was packed of them, so that most of such a
file is in memory twice. Source: llama.cpp of llama-cpp-python 0.3.36, ggml/src/ggml-cpu/repack.cpp,
`ggml_repack_get_optimal_repack_type`, and amx/amx.cpp, `supports_op`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from edgeward.runtimes.bundle.gguf_header import GgufTensor

# By the first of a processor's features, in llama.cpp's words: type -> the number that a matrix's
# rows have to be a multiple of.
_STEPS: Mapping[str, Mapping[str, int]] = {
    "AMX_INT8": dict.fromkeys(
        ("F16", "Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"), 32
    ),
    "AVX512": {"Q2_K": 8},
    "AVX2": dict.fromkeys(("Q4_0", "Q4_K", "IQ4_NL", "MXFP4"), 8),
    "DOTPROD": {
        **dict.fromkeys(("Q4_0", "IQ4_NL", "MXFP4", "Q8_0", "Q1_0"), 4),
        **dict.fromkeys(("Q4_K", "Q5_K", "Q6_K"), 8),
    },
}
# Rows of these are looked up; words' table is multiplied with where there is no head.
_WORDS, _HEAD = "token_embd.weight", "output.weight"
_LOOKED_UP = (_WORDS, "position_embd.weight", "token_types.weight")
# A part of the file no larger than one in so many may be in memory twice.
_BARELY = 8


def is_repacked(type_name: str, shape: tuple[int, ...], features: Collection[str]) -> bool:
    """Say whether a matrix of this type and shape, rows first, is packed anew."""
    steps = (_STEPS[name].get(type_name) for name in _STEPS if name in features)
    return len(shape) > 1 and any(step and shape[-2] % step == 0 for step in steps)


def repacked_bytes(tensors: Iterable[GgufTensor], features: Collection[str]) -> int:
    """Return the bytes of those of a model's tensors that are packed anew."""
    listed = list(tensors)
    is_tied = all(tensor.name != _HEAD for tensor in listed)
    return sum(
        tensor.size
        for tensor in listed
        if is_repacked(tensor.type_name, tensor.shape, features)
        and (tensor.name not in _LOOKED_UP or (is_tied and tensor.name == _WORDS))
    )


def is_better_read(repacked: int, stored: int) -> bool:
    """Say whether a file is better read than mapped: where much of it would stand there twice.

    What is mapped is there at once, shared by processes, and can be dropped and read again.
    """
    return repacked * _BARELY > stored
