"""The arguments of the job `benchmark`: one combination of what `edgeward bench` measures."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError

from edgeward.errors import UsageError
from edgeward.runtimes.bundle.canonical import canonical_bytes
from edgeward.runtimes.bundle.manifest import reason

from .fields import Counter, Document, Number

# Twelve letters are what lists show of a digest.
BundleName = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12,64}$")]
Count = Annotated[int, Field(ge=0, le=10_000_000)]
Positive = Annotated[int, Field(ge=1, le=10_000_000)]


class Benchmark(Document):
    """`bundle` is a digest or its beginning, None for the one that is active.

    The others are those of `edgeward.targets.bench.request.Request`; `memory_bytes` is the most
    that the measured process may take, None for all that is free.
    """

    bundle: BundleName | None = None
    scenario: Literal["SingleStream", "Offline", "Server"] = "SingleStream"
    threads: Annotated[int, Field(ge=0, le=4096)] = 0
    batch: Positive = 1
    prompt: Count = 0
    generate: Count = 0
    least_queries: Positive = 16
    least_seconds: Annotated[Number, Field(ge=0, le=86_400)] = 3.0
    rate: Annotated[Number, Field(gt=0, le=1e6)] | None = None
    bound_ms: Annotated[Number, Field(gt=0, le=1e9)] | None = None
    seed: Counter = 0
    memory_bytes: Annotated[int, Field(ge=1, le=2**53)] | None = None


def read_benchmark(arguments: dict[str, Any]) -> Benchmark:
    """Return a job's arguments; UsageError says what is wrong with them."""
    try:
        return Benchmark.model_validate_json(canonical_bytes(arguments))
    except ValidationError as error:
        raise UsageError("The benchmark cannot be read", why=reason(error)) from None
