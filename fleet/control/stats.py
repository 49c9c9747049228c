"""Endpoint statistics as the controller keeps them: intervals checked, merged and summed up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeward.errors import ProtocolError
from edgeward.runtimes.bundle.manifest import reason
from edgeward.runtimes.statistics.sketch import Sketch

from ..protocol.fields import Counter, Name

SKETCHES = ("latency_ms", "load_ms", "queue_ms", "ttft_ms", "tpot_ms")
MAX_ERROR_CLASSES = 32
MAX_COUNT = 2**53
MAX_SUM = 1e36
OTHER_ERRORS = "other"
QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


class _Delta(BaseModel):
    """The counters of one interval, as a device sends them."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    requests: Counter
    items: Counter = 0
    tokens_in: Counter = 0
    tokens_out: Counter = 0
    errors: dict[Name, Counter] = Field(default_factory=dict, max_length=MAX_ERROR_CLASSES)
    memory_bytes: Counter = 0
    sketches: Annotated[dict[Name, dict[str, Any]], Field(max_length=32)] = Field(
        default_factory=dict
    )


@dataclass(slots=True)
class Totals:
    """Counters and sketches that add up; memory is the highest seen, in bytes."""

    requests: int = 0
    items: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    memory_bytes: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    sketches: dict[str, Sketch] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """How many requests ended in an error."""
        return sum(self.errors.values())

    def merge(self, other: Totals) -> None:
        """Add everything that `other` counted; counters stop at 2**53."""
        for name in ("requests", "items", "tokens_in", "tokens_out"):
            setattr(self, name, min(MAX_COUNT, getattr(self, name) + getattr(other, name)))
        self.memory_bytes = max(self.memory_bytes, other.memory_bytes)
        for name, count in other.errors.items():
            self._add_error(name, count)
        for name, sketch in other.sketches.items():
            self._add_sketch(name, sketch)

    def _add_error(self, name: str, count: int) -> None:
        if name not in self.errors and len(self.errors) >= MAX_ERROR_CLASSES - 1:
            name = OTHER_ERRORS
        self.errors[name] = min(MAX_COUNT, self.errors.get(name, 0) + count)

    def _add_sketch(self, name: str, sketch: Sketch) -> None:
        mine = self.sketches.setdefault(name, Sketch())
        if mine.count + sketch.count <= MAX_COUNT:
            mine.merge(sketch)
            mine.sum = min(mine.sum, MAX_SUM)

    def to_json(self) -> dict[str, Any]:
        """Return the totals as the store keeps them."""
        return {
            "requests": self.requests,
            "items": self.items,
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "memory_bytes": self.memory_bytes,
            "errors": self.errors,
            "sketches": {name: sketch.to_json() for name, sketch in self.sketches.items()},
        }

    def row(self) -> dict[str, Any]:
        """Return the figures that people read: milliseconds, bytes and shares."""
        figures: dict[str, Any] = {
            "requests": self.requests,
            "errors": self.failed,
            "error_rate": self.failed / self.requests if self.requests else None,
            "items": self.items,
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "memory_bytes": self.memory_bytes,
            "error_classes": dict(sorted(self.errors.items())),
        }
        for name in SKETCHES:
            stem, sketch = name.removesuffix("_ms"), self.sketches.get(name)
            for label, q in QUANTILES:
                figures[f"{stem}_{label}_ms"] = sketch.quantile(q) if sketch else None
        return figures


def read_delta(document: Mapping[str, Any]) -> Totals:
    """Check a delta from a device; ProtocolError says what is wrong with it."""
    try:
        delta = _Delta.model_validate(dict(document))
        sketches = {n: Sketch.from_json(delta.sketches[n]) for n in SKETCHES if n in delta.sketches}
    except ValidationError as error:
        raise ProtocolError(
            "The statistics do not follow their schema", why=reason(error)
        ) from None
    except (ValueError, OverflowError) as error:
        raise ProtocolError("A sketch cannot be read", why=str(error)) from None
    return Totals(
        requests=delta.requests,
        items=delta.items,
        tokens_in=delta.tokens_in,
        tokens_out=delta.tokens_out,
        memory_bytes=delta.memory_bytes,
        errors=dict(delta.errors),
        sketches=sketches,
    )


def total(parts: Iterable[Totals]) -> Totals:
    """Return everything together."""
    result = Totals()
    for part in parts:
        result.merge(part)
    return result
