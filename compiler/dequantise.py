"""A GGUF file or a compressed checkpoint as the plain folder that everything else starts from.

A stage of its own, in the toolchain that reads the format; then it is held against the format's own
engine where there is one here. What follows is proved against the dequantised model, and the
manifest says so.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from edgeward.errors import StageError, ToolchainError
from edgeward.runtimes.bundle.canonical import JSON

from .architectures import Coverage
from .cache_dir import cache_root
from .dequantise_gguf_small import WRITER_VERSION
from .source import Source, read_source
from .source_gguf import GGUF
from .source_gguf_types import FLOATS
from .source_packed import Packed
from .stages import StageInput, StageResult, StageSpec
from .words import size_words

_GGUF_TOOLCHAIN, _LLAMA_TOOLCHAIN = "gguf", "llama"
_SPARE = 1 << 28


class _Stages(Protocol):
    def run(self, spec: StageSpec) -> StageResult: ...


def dequantised(source: Source, coverages: Sequence[Coverage], stages: _Stages) -> Source:
    """Return the plain model of a source, itself where it is one.

    Raises StageError where the disk has no room for the floats, ProofError where they are not what
    the format's own engine computes with.
    """
    packed = source.packed
    if packed is None:
        return source
    _check_disk(packed)
    result = stages.run(_dequantise(packed))
    checks = _checked(packed, result, source.task, stages)
    plain = read_source(result.path, source.id, source.revision, source.task, coverages)
    origin: dict[str, JSON] = {
        "format": packed.format,
        "types": dict(packed.types),
        "sha256": packed.sha256,
        "checks": dict(checks),
    }
    return replace(plain, license=source.license or plain.license, dequantised_from=origin)


def _check_disk(packed: Packed) -> None:
    root = cache_root()
    place = next(one for one in (root, *root.parents) if one.exists())
    free = shutil.disk_usage(place).free
    if free < packed.float_bytes + _SPARE:
        raise StageError(
            f"{packed.paths[0]} takes {size_words(packed.float_bytes)} in floats, and {root} has "
            f"{size_words(free)} left",
            why="it is dequantised before anything else",
            next="set EDGEWARD_CACHE to a folder with more room",
        )


def _dequantise(packed: Packed) -> StageSpec:
    if packed.format != GGUF:
        return StageSpec(
            name="dequantise",
            call="edgeward.compiler.dequantise_checkpoint:dequantise",
            version=1,
            inputs={"source": StageInput(packed.folder, f"{packed.sha256}{packed.beside_sha256}")},
            params={"weights": [path.name for path in packed.paths], "files": list(packed.files)},
            estimate_bytes=1 << 30,
        )
    inputs = {
        f"{number:04d}": StageInput(path, f"{packed.sha256}/{number}")
        for number, path in enumerate(packed.paths)
    }
    if packed.beside is not None:
        inputs["beside"] = StageInput(packed.beside, packed.beside_sha256)
    return StageSpec(
        name="dequantise",
        call="edgeward.compiler.dequantise_gguf:dequantise",
        version=WRITER_VERSION,
        inputs=inputs,
        params={"files": len(packed.paths)},
        toolchain=_GGUF_TOOLCHAIN,
        estimate_bytes=1 << 30,
    )


def _checked(packed: Packed, plain: StageResult, task: str, stages: _Stages) -> Mapping[str, float]:
    """Hold a GGUF's floats against llama.cpp's run; nothing where it cannot be built."""
    if packed.format != GGUF:
        return {}
    torch = stages.run(
        StageSpec(
            name="dequantise-torch",
            call="edgeward.compiler.dequantise_gguf_torch:run",
            version=1,
            inputs={"source": plain.as_input()},
            params={"task": task},
            toolchain=_GGUF_TOOLCHAIN,
            estimate_bytes=packed.float_bytes * 2 + (1 << 30),
        )
    )
    check = StageSpec(
        name="dequantise-check",
        call="edgeward.compiler.dequantise_gguf_check:check",
        version=1,
        inputs={
            "gguf": StageInput(packed.paths[0], packed.sha256),
            "plain": plain.as_input(),
            "torch": torch.as_input(),
        },
        params={"task": task, "quantised": not FLOATS.issuperset(packed.types)},
        toolchain=_LLAMA_TOOLCHAIN,
        estimate_bytes=packed.float_bytes,
    )
    try:
        return dict(stages.run(check).metrics)
    except ToolchainError:
        return {}
