"""What the command does: options to requests, requests to records, records to what is printed."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeward.errors import UsageError
from edgeward.runtimes.bundle.read import open_bundle
from edgeward.runtimes.output import render_json
from edgeward.targets.units import parse_size

from .against import Duel, rows_of
from .child import Limits, available_bytes
from .command import parse_command
from .interrupt import Interrupts
from .predicted import open_predictor
from .present import render, render_table
from .request import Request, Sweep, numbers, scenarios_of
from .scenarios import MLPERF_SECONDS, mlperf_queries
from .store import Store
from .sweep import Sweeping

_RATIO_COLUMNS = ("figure", "a", "b", "ratio", "low", "high", "rounds", "verdict")


@dataclass(frozen=True, slots=True)
class Asked:
    """The command's options, as they were written."""

    bundle: Path
    scenario: str = "SingleStream"
    threads: str = "0"
    batch: str = "1"
    prompt: str = "0"
    gen: str = "0"
    data: Path | None = None
    min_queries: int = 16
    min_duration: float = 3.0
    mlperf: bool = False
    qps: float | None = None
    latency_bound: float | None = None
    against: str | None = None
    rounds: int = 12
    target: str | None = None
    memory: str | None = None
    timeout: float = 3600.0
    python: str | None = None
    seed: int = 0
    quiet: bool = False

    def requests(self) -> list[Request]:
        """Return every combination; UsageError where an option cannot be read or kept."""
        if self.seed < 0:
            raise UsageError("--seed is 0 or more")
        if self.data is not None and not self.data.is_file():
            raise UsageError(f"{self.data} is no file")
        shared = Request(
            bundle=str(self.bundle),
            least_queries=self.min_queries,
            least_seconds=self.min_duration,
            rate=self.qps,
            bound_ms=self.latency_bound,
            seed=self.seed,
            data=str(self.data) if self.data else None,
        )
        requests = Sweep(
            shared,
            scenarios=scenarios_of(self.scenario),
            threads=numbers(self.threads, "--threads", least=0),
            batches=numbers(self.batch, "--batch"),
            prompts=numbers(self.prompt, "--prompt", least=0),
            generated=numbers(self.gen, "--gen", least=0),
        ).requests()
        return [as_mlperf(each) for each in requests] if self.mlperf else requests

    @property
    def limits(self) -> Limits:
        """What a child may take; UsageError where an option is no size or no time."""
        if not 0 < self.timeout <= 7 * 86_400:
            raise UsageError("--timeout is a number of seconds above 0, a week at most")
        try:
            memory = parse_size(self.memory) if self.memory else available_bytes()
        except ValueError as error:
            raise UsageError(f"--memory {self.memory!a}", why=str(error)) from None
        return Limits(self.timeout, memory, self.python or sys.executable)

    def say(self, words: str) -> None:
        """Write a line of progress; warnings even where it is to be quiet."""
        if not self.quiet or words.startswith("warning"):
            sys.stderr.write(words + "\n")


def as_mlperf(request: Request) -> Request:
    """Return a request with MLPerf's own minima."""
    queries = -(-mlperf_queries(request.scenario) // request.batch)
    return replace(request, least_queries=queries, least_seconds=MLPERF_SECONDS)


def measure(asked: Asked, form: str) -> int:
    """Measure every combination and print the records; return the exit code.

    Ctrl-C, and whatever else ends it, leaves the finished rows printed and kept.
    """
    requests, limits, store = asked.requests(), asked.limits, Store()
    store.check()
    bundle = open_bundle(asked.bundle)
    predictor = open_predictor(bundle, asked.target)
    records: list[dict[str, Any]] = []
    interrupts = Interrupts()
    limits = replace(limits, between=interrupts.check)
    sweeping = Sweeping(bundle, requests, limits, store, predictor, asked.say)
    try:
        with interrupts:
            for record in sweeping.records():
                records.append(record)
                if form == "jsonl":
                    _print(render([record], form))
    finally:
        if records and form != "jsonl":
            _print(render(records, form))
    return sweeping.failures[0].exit_code if sweeping.failures else 0


def race(asked: Asked, form: str) -> str:
    """Measure against another bundle or a command, in turn; return what is printed."""
    requests, limits, store = asked.requests(), asked.limits, Store()
    if len(requests) != 1:
        raise UsageError("--against compares one combination", why=f"{len(requests)} were named")
    store.check()
    against = str(asked.against)
    folder = bool(against) and Path(against).is_dir()
    interrupts = Interrupts()
    duel = Duel(
        bundle=open_bundle(asked.bundle),
        request=requests[0],
        other=open_bundle(against) if folder else parse_command(against),
        rounds=asked.rounds,
        limits=replace(limits, between=interrupts.check),
        say=asked.say,
    )
    with interrupts:
        record = duel.record(store)
    if form == "json":
        return render_json(record)
    return render_table(rows_of(record), _RATIO_COLUMNS, form)


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
