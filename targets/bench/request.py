"""What one process measures: a bundle in one combination of settings, as JSON between processes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from edgeward.errors import UsageError
from edgeward.runtimes.engines.base import EngineOptions

from .scenarios import SCENARIOS, SERVER, SINGLE_STREAM, Rules

DEFAULT_GENERATED = 64
MOST_COMBINATIONS = 1000
_LARGEST = 10_000_000
_IDLE_HALF = 0.5


@dataclass(frozen=True, slots=True)
class Request:
    """One combination.

    `threads` 0 lets the engine choose; `batch` is rows a query; `prompt` is the tokens of each text
    (0: as long as it is), `generate` those that are written behind it (0: an answer's 64, what
    speech and text to text come to). `data` is a file that the
    workload is made of instead of the golden inputs. `once` asks for a single request in place of a
    scenario.
    """

    bundle: str
    scenario: str = SINGLE_STREAM
    threads: int = 0
    batch: int = 1
    prompt: int = 0
    generate: int = 0
    least_queries: int = 16
    least_seconds: float = 3.0
    rate: float | None = None
    bound_ms: float | None = None
    seed: int = 0
    data: str | None = None
    once: bool = False

    @property
    def rules(self) -> Rules:
        """The scenario's rules; UsageError where they cannot be kept."""
        return Rules(
            self.scenario,
            self.least_queries,
            self.least_seconds,
            self.rate,
            self.bound_ms,
            self.seed,
        )

    def rules_for(self, median_ns: float) -> Rules:
        """Return the rules; the Server's rate, where none is told, is half of what is possible."""
        rules = self.rules
        if rules.scenario != SERVER or rules.rate is not None:
            return rules
        return replace(rules, rate=min(_IDLE_HALF * 1e9 / max(median_ns, 1.0), 1e6))

    @property
    def words(self) -> str:
        """The combination in a few words."""
        told = [self.scenario, f"threads {self.threads or 'auto'}", f"batch {self.batch}"]
        if self.prompt:
            told.append(f"prompt {self.prompt}")
        return ", ".join(told)

    def to_json(self) -> str:
        """Return it as a line of JSON."""
        return json.dumps(asdict(self))


def from_json(text: str) -> Request:
    """Return what `to_json` made."""
    return Request(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Sweep:
    """The lists whose combinations are measured, and what all of them share."""

    shared: Request
    scenarios: Sequence[str] = (SINGLE_STREAM,)
    threads: Sequence[int] = (0,)
    batches: Sequence[int] = (1,)
    prompts: Sequence[int] = (0,)
    generated: Sequence[int] = (0,)

    def requests(self) -> list[Request]:
        """Return every combination, checked; UsageError where one is impossible or too many are."""
        lists = (self.scenarios, self.threads, self.batches, self.prompts, self.generated)
        count = 1
        for each in lists:
            count *= len(each)
        if not 1 <= count <= MOST_COMBINATIONS:
            raise UsageError(f"{count} combinations; there may be {MOST_COMBINATIONS}")
        return list(self._combined(itertools.product(*lists)))

    def _combined(
        self, combinations: Iterator[tuple[str, int, int, int, int]]
    ) -> Iterator[Request]:
        shared = asdict(self.shared)
        for scenario, threads, batch, prompt, generate in combinations:
            named = {"scenario": scenario, "threads": threads, "batch": batch}
            made = Request(**{**shared, **named, "prompt": prompt, "generate": generate})
            if batch > 1 and scenario == SERVER:
                raise UsageError(f"{scenario} asks one sample at a time, not {batch}")
            # Both refuse what no run can keep.
            _ = made.rules, EngineOptions(threads=threads)
            yield made


def numbers(text: str, option: str, least: int = 1) -> tuple[int, ...]:
    """Return a comma list of whole numbers, each once; UsageError where it is none."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and len(word) <= 9 for word in words):
        raise UsageError(f"{option} is a list of whole numbers such as 1,2,4, not {text[:60]!a}")
    found = tuple(dict.fromkeys(int(word) for word in words))
    if not all(least <= number <= _LARGEST for number in found):
        raise UsageError(f"{option} has numbers from {least} to {_LARGEST}")
    return found


def scenarios_of(text: str) -> tuple[str, ...]:
    """Return a comma list of scenarios, in MLPerf's spelling whatever the case."""
    found = []
    for word in text.split(","):
        plain = word.strip().replace("-", "").replace("_", "").lower()
        known = {name.lower(): name for name in SCENARIOS}
        if plain not in known:
            raise UsageError(
                f"There is no scenario {word.strip()[:40]!a}",
                why=f"known: {', '.join(known.values())}",
            )
        found.append(known[plain])
    return tuple(dict.fromkeys(found))
