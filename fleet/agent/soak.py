"""Does the new bundle hold in service? Rules over what was observed; silence is not success."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HEALTH_MISSES = 3
JUDGED_FROM = 20
CALLERS_FAULT = frozenset({"UsageError"})


@dataclass(slots=True)
class Watch:
    """What a soak has seen so far; `since` and `seconds` on the monotonic clock."""

    bundle: str
    since: float
    seconds: float
    max_error_rate: float
    answered: int = 0
    refused: int = 0
    requests: int = 0
    errors: int = 0
    misses: int = 0
    fault: str = ""

    def saw_health(self, digest: str | None) -> None:
        """Note what /healthz said, None for nothing."""
        self.misses = self.misses + 1 if digest is None else 0
        if digest is not None and digest != self.bundle:
            self.fault = f"it serves another bundle: {digest[:64]}"
        elif self.misses >= HEALTH_MISSES:
            self.fault = f"its health endpoint did not answer {self.misses} times in a row"

    def saw_probe(self, problem: str | None) -> None:
        """Note how one of our own requests went."""
        if problem is None:
            self.answered += 1
            return
        self.refused += 1
        if self.refused >= HEALTH_MISSES and not self.answered:
            self.fault = f"it does not answer requests: {problem}"

    def saw_delta(self, delta: Mapping[str, Any]) -> None:
        """Count an interval of this bundle's statistics; callers' mistakes are not the model's."""
        if delta.get("bundle") != self.bundle:
            return
        errors = delta.get("errors")
        counted = errors.items() if isinstance(errors, dict) else ()
        self.errors += sum(_count(n) for name, n in counted if name not in CALLERS_FAULT)
        self.requests += _count(delta.get("requests"))
        if self.requests >= JUDGED_FROM:
            self._judge_errors()

    def saw_death(self, words: str) -> None:
        """Note that the server died."""
        self.fault = f"the server died: {words}" if words else "the server died"

    def passed(self, now: float) -> bool:
        """Return whether the soak is over and good; `fault` says why where it never will be."""
        if self.fault or now - self.since < self.seconds:
            return False
        seen, bad = self.answered + self.refused, self.refused
        if self.requests < JUDGED_FROM and self.errors:
            self._judge_errors()
        if not self.answered:
            return False
        if bad / seen > self.max_error_rate:
            self.fault = f"{bad} of {seen} probes failed, {self.max_error_rate:.3g} is allowed"
        return not self.fault

    def _judge_errors(self) -> None:
        rate = self.errors / max(self.requests, 1)
        if rate > self.max_error_rate:
            self.fault = (
                f"{self.errors} of {self.requests} requests failed, "
                f"a share of {self.max_error_rate:.3g} is allowed"
            )


def _count(value: object) -> int:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return max(int(value), 0) if whole and isinstance(value, int) else 0
