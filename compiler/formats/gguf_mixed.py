"""A GGUF file whose tensors each get the type that loses least at the file's size."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgeward.compiler.stages import StageInput, StageResult, StageSpec
from edgeward.errors import UnsupportedError, UsageError
from edgeward.targets.units import parse_size

from .base import Job, Stages
from .gguf_choice import Choice, Offer, choose, smallest
from .gguf_options import SIZE, TYPES
from .gguf_types import MIXED

BITS = 4.75
_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")
_HERE = "edgeward.compiler.formats.gguf"
# What tensors choose among; those of 256 columns a block are passed over where they do not fit.
CANDIDATES = (
    "q2_k",
    "iq3_xxs",
    "iq3_s",
    "q3_k",
    "iq4_xs",
    "iq4_nl",
    "q4_0",
    "q4_1",
    "q4_k",
    "q5_0",
    "q5_1",
    "q5_k",
    "q6_k",
    "q8_0",
)
# Those that llama.cpp has kernels of whole matrices for, on x86 and Arm alike (ggml-cpu, repack.cpp
# and sgemm.cpp): with the others a prompt is read several times more slowly.
FAST = ("iq4_nl", "q4_0", "q4_k", "q8_0")
_FAST = "fast"
_ROWS = 192


def check_mixed(job: Job) -> None:
    """Raise UsageError for a size or types that are none, or that another precision is given."""
    for name in (SIZE, TYPES):
        given = job.options.get(name)
        if given and job.recipe.precision != MIXED:
            raise UsageError(
                f"{job.recipe.precision} takes no --{name}",
                why=f"it is for {MIXED}, which chooses types within a size",
                next=f"edgeward compile … --precision {MIXED} --{name} {given[-1]}",
            )
    given = job.options.get(SIZE)
    if given:
        read_size(given[-1])
    candidates(job)
    if job.recipe.precision == MIXED and job.source.task != "text-generation":
        raise UnsupportedError(
            f"{MIXED} is for models that write texts",
            why="what rounding costs is told by the tokens that a model finds likely",
            next="edgeward compile … --precision q4_k_m",
        )


def rate_types(
    job: Job, model: StageInput, importance: StageInput | None, stages: Stages
) -> dict[str, StageResult]:
    """Run the stages that tell what each type would cost each tensor; `rate` is the last."""
    costs = stages.run(_costs(job))
    return {"costs": costs, "rate": stages.run(_rate(model, costs, importance))}


def mixed_types(job: Job, rates: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return pattern and type of every tensor that is rounded, within the size that was asked for.

    Raises UsageError where no choice is so small.
    """
    return patterns(choice_for(job, rates, wanted_bytes(job, rates)).types)


def candidates(job: Job) -> tuple[str, ...]:
    """Return the types that tensors choose among; UsageError for one that is not known."""
    given = ",".join(job.options.get(TYPES, ()))
    if not given:
        return CANDIDATES
    if given == _FAST:
        return FAST
    asked = tuple(word.strip().lower() for word in given.split(",") if word.strip())
    unknown = sorted(set(asked) - set(CANDIDATES))
    if unknown or not asked:
        raise UsageError(
            f"{unknown[0][:40] if unknown else given!r} is no type that {MIXED} chooses among",
            why=f"known: {', '.join(CANDIDATES)}; {_FAST}: {', '.join(FAST)}",
        )
    return asked


def made_fast(job: Job) -> Job:
    """Return the job with the types alone that llama.cpp reads a prompt with fast."""
    return replace(job, options={**job.options, TYPES: (_FAST,)})


def patterns(types: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return few patterns that give each tensor its type: the blocks of one kind in one.

    llama.cpp tries every pattern on every tensor, slowly.
    """
    blocks: dict[tuple[str, str], list[str]] = {}
    found = []
    for name, kind in types.items():
        block = _BLOCK.fullmatch(name)
        if block:
            blocks.setdefault((block[2], kind), []).append(block[1])
        else:
            found.append((f"^{re.escape(name)}$", kind))
    for (rest, kind), numbers in blocks.items():
        found.append((rf"^blk\.({'|'.join(numbers)})\.{re.escape(rest)}$", kind))
    return found


def _costs(job: Job) -> StageSpec:
    source = job.source
    return StageSpec(
        name="costs",
        call=f"{_HERE}_costs:measure",
        version=1,
        inputs={"source": StageInput(source.folder, source.digest)},
        params={"task": source.task, "texts": list(job.calibration), "seed": 0},
        toolchain="gguf",
        estimate_bytes=source.weight_bytes * 3 + (1 << 30),
    )


def _rate(model: StageInput, costs: StageResult, importance: StageInput | None) -> StageSpec:
    beside = {} if importance is None else {"importance": importance}
    return StageSpec(
        name="rate",
        call=f"{_HERE}_mixed_worker:rate",
        version=1,
        inputs={"model": model, "costs": costs.as_input("costs.safetensors"), **beside},
        params={"types": list(CANDIDATES), "rows": _ROWS},
        toolchain="llama",
        estimate_bytes=1 << 30,
    )


def choice_for(job: Job, rates: Mapping[str, Any], most: int) -> Choice:
    """Return the best choice for a file of at most that many bytes; UsageError where none is."""
    offers, rest = offers_of(job, rates)
    try:
        return choose(offers, most - rest)
    except ValueError:
        least = (smallest(offers) + rest) / 1e6
        raise UsageError(
            f"No GGUF file of this model has {most / 1e6:.1f} MB",
            why=f"the smallest types that are tried make {least:.1f} MB",
            next=f"edgeward compile … --precision {MIXED} --{SIZE} {least + 1:.0f}MB",
        ) from None


def offers_of(job: Job, rates: Mapping[str, Any]) -> tuple[dict[str, list[Offer]], int]:
    """Return what each tensor may be, and the bytes of all else in the file.

    Raises UsageError where a tensor can be none of the types that the job chooses among.
    """
    allowed = set(candidates(job))
    offers = {
        name: [Offer(kind, size, cost) for kind, size, cost in each if kind in allowed]
        for name, each in rates["offers"].items()
    }
    lacking = [name for name, each in offers.items() if not each]
    if lacking:
        raise UsageError(
            f"{lacking[0]} can be none of {', '.join(sorted(allowed))}",
            why="its rows do not fill a block of these types",
            next=f"edgeward compile … --precision {MIXED} --{TYPES} q4_0,q8_0",
        )
    return offers, rates["rest"]


def wanted_bytes(job: Job, rates: Mapping[str, Any]) -> int:
    """Return the bytes that were asked for, else those of some bits a weight."""
    given = job.options.get(SIZE)
    if given:
        return read_size(given[-1])
    return int(rates["weights"] * BITS / 8) + int(rates["rest"])


def read_size(text: str) -> int:
    """Return bytes of `90MB`; UsageError where it is no size."""
    number = text.rstrip("kKMGTiB ")
    try:
        return parse_size(f"{number} {text[len(number) :].strip()}")
    except ValueError as error:
        raise UsageError(f"--size {text} is no size", why=str(error)) from None
