"""What an evaluation is made of: cases, what was found for each, and work for one bundle's task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from edgeward.runtimes.session import Session

LABEL, NUMBER, TEXT, SPANS, PLACES, NATS = "label", "number", "text", "spans", "places", "nats"
BOXES, REGIONS = "boxes", "regions"
Found = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the data, checked.

    `wanted` is, by the kind of its work: a label; a number; a tuple of texts of which one is
    enough; a tuple of (start, end, label) by characters; a tuple of places in the corpus; a tuple
    of (label, left, top, width, height, whether it is a crowd) in pixels; a mask's path; None.
    """

    line: int
    given: Mapping[str, Any]
    wanted: Any


class Outcome(NamedTuple):
    """A case and what a bundle made of it, plain JSON: under the kind's name stands its answer."""

    case: Case
    found: Found


@dataclass(frozen=True, slots=True)
class Settings:
    """How a bundle is asked."""

    columns: Mapping[str, str]
    max_tokens: int = 128
    system: str | None = None
    raw: bool = False
    language: str | None = None
    prompt: str | None = None
    window: int = 512


@dataclass(frozen=True, slots=True)
class Work:
    """Cases of one kind, the metrics that are told unless others are asked for, and who answers.

    `run` gives one finding a case, in their order.
    """

    kind: str
    metrics: tuple[str, ...]
    cases: tuple[Case, ...]
    run: Callable[[Session, Sequence[Case]], Iterator[Found]]
