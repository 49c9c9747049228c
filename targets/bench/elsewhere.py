"""`--on DEVICE`: the same combinations, measured by a device of the fleet."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from edgeward.errors import EdgewardError, MissingError, UsageError
from edgeward.runtimes.bundle.read import Bundle, open_bundle
from edgeward.runtimes.output import cell
from edgeward.targets.units import parse_size

from .asked import Asked
from .foreign import checked
from .predicted import open_predictor
from .present import render
from .request import Request
from .store import Store

# The room above this one; it is imported where a device is named.
FLEET = "edgeward.fleet.control.benchmarks"
ACTIVE = "active"
_DIGEST = re.compile(r"[0-9a-f]{12,64}")
_HERE_ALONE = ("data", "against", "python")


class Measured(Protocol):
    """What came of one combination: its job, and the record or the error."""

    job: str
    record: dict[str, Any] | None
    error: EdgewardError | None


class Orders(Protocol):
    """What a device was asked to measure."""

    jobs: Sequence[str]

    def results(self, wait_seconds: float) -> Iterator[Measured]:
        """Give what comes of each, in their order; FleetError where the wait is over before."""
        ...


class Fleet(Protocol):
    """The controller, as far as measuring cares; `edgeward.fleet.control.benchmarks` is one."""

    def order(
        self,
        home: Path | None,
        device: str,
        benchmarks: Sequence[Mapping[str, Any]],
        timeout: float,
    ) -> Orders:
        """Ask a device to measure; FleetError where no controller answers or knows it."""
        ...

    def ordered(self, home: Path | None, jobs: Sequence[str]) -> Orders:
        """Return what was asked before."""
        ...


@dataclass(slots=True)
class Collecting:
    """Records on their way in from a device: each is kept and given at once."""

    store: Store
    bundle: Bundle | None
    asked: Asked
    failures: list[EdgewardError] = field(default_factory=list)

    def records(self, orders: Orders, wait_seconds: float) -> Iterator[dict[str, Any]]:
        """Give each record; a combination that fails is passed over, the first where all do."""
        measured = 0
        for result in orders.results(wait_seconds):
            try:
                record = self._kept(result)
            except EdgewardError as error:
                self.failures.append(error)
                if len(orders.jobs) > 1:
                    self.asked.say(f"not measured: {error}")
                continue
            measured += 1
            yield record
        if self.failures and not measured:
            raise self.failures[0]

    def _kept(self, result: Measured) -> dict[str, Any]:
        """A job's record is kept once, however often it is fetched."""
        if result.record is None:
            raise result.error or EdgewardError(f"{result.job} came to nothing")
        kept = (each for each in self.store.records() if each.get("job") == result.job)
        if (before := next(kept, None)) is not None:
            return before
        record = self._predicted(self._placed(checked(result.record)))
        self._warn(record)
        return {"id": self.store.append(record), **record}

    def _warn(self, record: dict[str, Any]) -> None:
        for warning in record["warnings"]:
            self.asked.say(f"warning: too noisy: {cell(warning)}")
        if not record["valid"]:
            self.asked.say(f"warning: not valid: {cell(record.get('invalid_why'))}")

    def _placed(self, record: dict[str, Any]) -> dict[str, Any]:
        """Where the bundle lies here, so that a profile can be corrected from the record later."""
        if self.bundle is None or record["bundle_digest"] != self.bundle.digest:
            return {**record, "bundle_folder": None}
        return {**record, "bundle_folder": str(self.bundle.path.resolve())}

    def _predicted(self, record: dict[str, Any]) -> dict[str, Any]:
        """What is predicted here stands in place of the device's own, where the bundle is here."""
        target = self.asked.target or record.get("device_target")
        if self.bundle is None or target is None or record["bundle_folder"] is None:
            return record
        try:
            return record | open_predictor(self.bundle, str(target)).beside(record)
        except EdgewardError as error:
            self.asked.say(f"not predicted here: {error.what}")
            return record


def measure_on(asked: Asked, device: str, home: Path | None, wait_seconds: float, form: str) -> int:
    """Let a device measure every combination, print and keep the records; return the exit code.

    Ctrl-C, and a wait that is over, leave the jobs to the device.
    """
    _check_wait(wait_seconds)
    benchmarks = _benchmarks(asked)
    store = Store()
    store.check()
    bundle = None if benchmarks[0]["bundle"] is None else _bundle_here(asked.bundle)
    orders = _fleet().order(home, device, benchmarks, asked.timeout)
    asked.say(f"{device} was asked for {len(orders.jobs)}: {' '.join(orders.jobs)}")
    return _collected(Collecting(store, bundle, asked), orders, wait_seconds, form)


def fetch(jobs: Sequence[str], home: Path | None, wait_seconds: float, form: str) -> int:
    """Print and keep what came of jobs that were asked for before; return the exit code."""
    _check_wait(wait_seconds)
    store, asked = Store(), Asked(bundle=Path())
    store.check()
    orders = _fleet().ordered(home, jobs)
    return _collected(Collecting(store, None, asked), orders, wait_seconds, form)


def _collected(collecting: Collecting, orders: Orders, wait_seconds: float, form: str) -> int:
    records: list[dict[str, Any]] = []
    try:
        for record in collecting.records(orders, wait_seconds):
            records.append(record)
            if form == "jsonl":
                _print(render([record], form))
    except KeyboardInterrupt:
        left = orders.jobs[len(records) + len(collecting.failures) :]
        collecting.asked.say(
            f"warning: the device goes on; see it by: edgeward bench fetch {' '.join(left)}"
        )
        raise
    finally:
        if records and form != "jsonl":
            _print(render(records, form))
    return collecting.failures[0].exit_code if collecting.failures else 0


def _benchmarks(asked: Asked) -> list[dict[str, Any]]:
    here_alone = [f"--{name}" for name in _HERE_ALONE if getattr(asked, name) is not None]
    if here_alone:
        raise UsageError(
            f"{', '.join(here_alone)} cannot be used with --on",
            why="the device measures what it has, with its own interpreter",
        )
    _ = asked.limits
    bundle = named_bundle(asked.bundle)
    memory = parse_size(asked.memory) if asked.memory else None
    return [_benchmark(each, bundle, memory) for each in asked.requests()]


def _check_wait(seconds: float) -> None:
    if not 0 <= seconds <= 30 * 86_400:
        raise UsageError("--wait is a number of seconds from 0, thirty days at most")


def named_bundle(given: Path) -> str | None:
    """Return the digest that a folder, a digest or its beginning means; None for `active`.

    Raises UsageError where it is none of these.
    """
    if given.is_dir():
        return open_bundle(given, check="sizes").digest
    if str(given) == ACTIVE:
        return None
    if _DIGEST.fullmatch(str(given)):
        return str(given)
    raise UsageError(
        f"{given} names no bundle", why="a folder, 12 to 64 letters of a digest, or `active`"
    )


def _bundle_here(given: Path) -> Bundle | None:
    return open_bundle(given, check="sizes") if given.is_dir() else None


def _benchmark(request: Request, bundle: str | None, memory: int | None) -> dict[str, Any]:
    # Agents that know no 0 take 64 where nothing is said.
    written = {"generate": request.generate} if request.generate else {}
    return {
        **written,
        "bundle": bundle,
        "scenario": request.scenario,
        "threads": request.threads,
        "batch": request.batch,
        "prompt": request.prompt,
        "least_queries": request.least_queries,
        "least_seconds": request.least_seconds,
        "rate": request.rate,
        "bound_ms": request.bound_ms,
        "seed": request.seed,
        "memory_bytes": memory,
    }


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _fleet() -> Fleet:
    try:
        return cast(Fleet, importlib.import_module(FLEET))
    except ModuleNotFoundError as error:
        raise MissingError(
            f"--on needs {error.name}, which is not installed",
            next="pip install 'edgeward[control]'",
        ) from None
