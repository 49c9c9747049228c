"""What is asked of a bundle: a query as a call, made of golden inputs or of a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from edgeward.errors import BundleError
from edgeward.runtimes.proof.registry import proof_for
from edgeward.runtimes.session import Session

Ask = Callable[[int], "int | None"]


@dataclass(slots=True)
class Workload:
    """A query as a call, and what one query is.

    `ask` takes the query's number and returns the moment of the first token (perf_counter_ns)
    where tokens are written. `read` and `written` are tokens of each of `rows`, `written` 0 until
    the first query where that tells how many there are; `seconds` those of the sound in a query.
    """

    ask: Ask
    what: str
    rows: int
    read: int = 0
    written: int = 0
    seconds: float = 0.0


def no_call(_number: int) -> None:
    """Stand for a query that is not made yet."""


def golden_cases(session: Session) -> Any:
    """Return the golden cases; BundleError where the bundle carries none."""
    bundle = session.bundle
    if bundle.manifest.golden is None:
        raise BundleError(
            f"{bundle.path} carries no golden inputs",
            why="so there is nothing to measure it with",
            next="edgeward bench BUNDLE --data FILE",
        )
    return proof_for(bundle.manifest.task).read_cases(bundle.path)


def lengthened(ids: Sequence[int], tokens: int) -> list[int]:
    """Return ids repeated and cut to a number of tokens, as they are for 0."""
    return list(islice(cycle(ids), tokens)) if tokens else list(ids)


def unheard(call: Callable[[], object]) -> Ask:
    """Return a call that writes no tokens as a query."""

    def ask(_number: int) -> None:
        call()

    return ask
