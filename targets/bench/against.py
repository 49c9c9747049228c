"""A B A B: two bundles, or a bundle and a command, in turn, and their ratio.

Every turn is a process of its own, so that what differs from process to process (where memory
lies, what is in caches) is in the interval too (Kalibera and Jones 2013, "Rigorous benchmarking in
reasonable time"). Drift meets both sides of a round alike.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgeward.errors import UsageError
from edgeward.runtimes.bundle.read import Bundle

from .child import WORKER, Limits, measure_alone
from .command import Told, run_once
from .ratio import LEAST_ROUNDS, paired_ratio
from .record import VERSION, now
from .request import Request
from .store import Store

MOST_ROUNDS = 1000
_ROUND_QUERIES, _ROUND_SECONDS = 5, 0.5
# Figure of a record: what it is called when it is compared.
_COMPARED = {
    "latency": "served_p50_ms",
    "ttft": "ttft_p50_ms",
    "tpot": "tpot_p50_ms",
    "load": "load_ms",
    "memory": "peak_memory_bytes",
}
Figures = dict[str, float]


@dataclass(slots=True)
class Duel:
    """A bundle against another or against a command, `rounds` times in turn."""

    bundle: Bundle
    request: Request
    other: Bundle | Sequence[str]
    rounds: int
    limits: Limits
    say: Callable[[str], None]
    _prints_rows: bool | None = None
    _sides: tuple[list[Figures], list[Figures]] = field(default_factory=lambda: ([], []))

    def __post_init__(self) -> None:
        """Raise UsageError for a number of rounds that tells nothing or never ends."""
        if not LEAST_ROUNDS <= self.rounds <= MOST_ROUNDS:
            raise UsageError(f"There are {LEAST_ROUNDS} to {MOST_ROUNDS} rounds")

    def record(self, store: Store) -> dict[str, Any]:
        """Run every round and return the record, kept in the store.

        Ctrl-C gives up the round that it falls into: those before it are told where they are
        enough for a ratio.
        """
        moment = now()
        try:
            for number in range(1, self.rounds + 1):
                self.say(f"round {number}/{self.rounds}")
                pair = self._round()
                for side, figures in zip(self._sides, pair, strict=True):
                    side.append(figures)
        except KeyboardInterrupt:
            if len(self._sides[1]) < LEAST_ROUNDS:
                raise
            self.say(f"interrupted after {len(self._sides[1])} rounds")
        record = self._told(moment)
        return {"id": store.append(record), **record}

    def _round(self) -> tuple[Figures, Figures]:
        if isinstance(self.other, Bundle):
            second = replace(self.request, bundle=str(self.other.path))
            return self._measured(self.request), self._measured(second)
        if self._prints_rows is None:
            # What it prints says what it has to be compared with; this run counts for nothing.
            measure_alone(replace(self.request, once=True), self.limits)
            self._prints_rows = bool(self._ran(self.other).rows)
        if not self._prints_rows:
            mine_s = self._whole_process()
            other_s = self._ran(self.other).seconds
            return {"process": mine_s * 1e3}, {"process": other_s * 1e3}
        mine = self._measured(self.request)
        return _by_token(mine, self.request, self._ran(self.other))

    def _measured(self, request: Request) -> Figures:
        short = replace(
            request,
            least_queries=min(request.least_queries, _ROUND_QUERIES),
            least_seconds=min(request.least_seconds, _ROUND_SECONDS),
        )
        document = measure_alone(short, self.limits)
        told = {**document, **document["figures"]}
        found = {name: float(told[key]) for name, key in _COMPARED.items() if key in told}
        return {**found, "read": document["work"]["read"], "written": document["work"]["written"]}

    def _whole_process(self) -> float:
        """A process from its start to its end, with one request: what a command's time is too."""
        once = replace(self.request, once=True)
        command = [self.limits.python, "-m", WORKER, once.to_json()]
        return self._ran(command).seconds

    def _ran(self, command: Sequence[str]) -> Told:
        return run_once(command, self.limits.seconds, self.limits.between)

    def _told(self, moment: str) -> dict[str, Any]:
        first, second = self._sides
        shared = [name for name in first[0] if name in second[0] and name not in _SIZES]
        ratios = {}
        for name in shared:
            a, b = ([figures[name] for figures in side] for side in (first, second))
            ratio = paired_ratio(a, b, seed=self.request.seed)
            ratios[name] = {**ratio.to_dict(), "a": a, "b": b}
        other = self.other
        return {
            "record_version": VERSION,
            "test_time": moment,
            "kind": "against",
            "model_filename": str(self.bundle.path),
            "bundle": self.bundle.manifest.name,
            "bundle_digest": self.bundle.digest,
            "against": str(other.path) if isinstance(other, Bundle) else " ".join(other),
            "against_digest": other.digest if isinstance(other, Bundle) else None,
            "scenario": self.request.scenario,
            "n_threads": self.request.threads,
            "batch": self.request.batch,
            "seed": self.request.seed,
            "rounds": len(second),
            "method": "geometric mean of paired rounds, expanded percentile bootstrap",
            "ratios": ratios,
        }


_SIZES = ("read", "written")


def _by_token(figures: Figures, request: Request, told: Told) -> tuple[Figures, Figures]:
    """Both sides in nanoseconds a token, where both have one."""
    a: Figures = {}
    b: Figures = {}
    read, each = told.per_token_ns("n_prompt"), told.per_token_ns("n_gen")
    if read is not None and "ttft" in figures and figures["read"]:
        a["prompt_token"] = figures["ttft"] * 1e6 / (figures["read"] * request.batch)
        b["prompt_token"] = read
    if each is not None and "tpot" in figures:
        a["tpot"], b["tpot"] = figures["tpot"] * 1e6 / request.batch, each
    if not a:
        raise UsageError(
            "The command told of nothing that this bundle does too",
            why="llama-bench's rows are of a prompt (n_prompt) or of an answer (n_gen)",
        )
    return a, b


def rows_of(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row a figure, for a table."""
    return [
        {
            "figure": name,
            "a": _middle(told["a"]),
            "b": _middle(told["b"]),
            "ratio": told["value"],
            "low": told["low"],
            "high": told["high"],
            "rounds": told["rounds"],
            "verdict": verdict(told),
        }
        for name, told in record["ratios"].items()
    ]


def verdict(told: Mapping[str, Any]) -> str:
    """Say in words what a ratio with its interval tells."""
    if not told["differs"]:
        return "no difference seen"
    return "B takes more" if told["value"] > 1 else "B takes less"


def _middle(values: Sequence[float]) -> float:
    return statistics.median(values)
