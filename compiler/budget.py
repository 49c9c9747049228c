"""What an artifact may cost and lose, as a user says it: `memory=4GiB,kl=0.05`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgeward.errors import UsageError
from edgeward.runtimes.bundle.manifest import Check
from edgeward.targets.units import parse_size

_BEFORE_UNIT = re.compile(r"(?<=[0-9])\s*(?=[A-Za-z])")
_SIZES = ("memory", "size")
# What each limit is called, the figure that it bounds, and from which side.
_FIGURES = {
    "kl": ("eval_kl_mean", "at-most"),
    "perplexity": ("eval_perplexity_ratio", "at-most"),
    "top1": ("eval_top1_agreement", "at-least"),
    "ttft": ("ttft_ms", "at-most"),
    "tpot": ("tpot_ms", "at-most"),
}
_TIMES = ("ttft", "tpot")
DEFAULT_CONTEXT = 4096


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound of one measured figure."""

    name: str
    bound: float

    def check(self, figures: Mapping[str, float]) -> Check:
        """Return the figure beside its bound; one that was not measured misses it."""
        metric, direction = _FIGURES[self.name]
        missing = math.inf if direction == "at-most" else -math.inf
        value = figures.get(metric, missing)
        finite = min(max(value, -1e300), 1e300)
        return Check.model_validate(
            {"metric": metric, "value": finite, "bound": self.bound, "direction": direction}
        )


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes in memory while it runs with `context` tokens, bytes of the bundle, and figures."""

    memory_bytes: int | None = None
    size_bytes: int | None = None
    limits: tuple[Limit, ...] = ()
    context: int = DEFAULT_CONTEXT

    @property
    def divergence(self) -> float | None:
        """The most KL divergence from the original, in nats, None where it does not matter."""
        return next((limit.bound for limit in self.limits if limit.name == "kl"), None)

    @property
    def bounds_time(self) -> bool:
        """Whether it says how long a token may take."""
        return any(limit.name in _TIMES for limit in self.limits)

    def missed(self, figures: Mapping[str, float]) -> list[Check]:
        """Return the limits that figures do not keep."""
        checks = [limit.check(figures) for limit in self.limits]
        return [check for check in checks if not check.passed]


def parse_budget(given: Iterable[str], context: int | None = None) -> Budget | None:
    """Return the budget of `name=value` parts, commas between them; None where none is given.

    Raises UsageError naming what can be bounded.
    """
    parts = [part for text in given for part in text.split(",") if part.strip()]
    if not parts:
        return None
    sizes: dict[str, int] = {}
    limits: dict[str, Limit] = {}
    for part in parts:
        name, _, value = (word.strip() for word in part.partition("="))
        if name in _SIZES:
            sizes[name] = _bytes(part, value)
        elif name in _FIGURES:
            limits[name] = Limit(name, _number(part, value.removesuffix("ms")))
        else:
            raise UsageError(
                f"{part!r} bounds nothing", why=f"known: {', '.join([*_SIZES, *_FIGURES])}"
            )
    return Budget(
        sizes.get("memory"),
        sizes.get("size"),
        tuple(limits.values()),
        DEFAULT_CONTEXT if context is None else context,
    )


def _bytes(part: str, value: str) -> int:
    try:
        return parse_size(_BEFORE_UNIT.sub(" ", value, count=1))
    except ValueError as error:
        raise UsageError(f"{part!r} is no size", why=str(error)) from None


def _number(part: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise UsageError(f"{part!r} is no figure", why="expected a number such as kl=0.05")
    return number
