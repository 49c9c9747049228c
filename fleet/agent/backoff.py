"""Full jitter: wait anything between nothing and a bound that doubles."""

from __future__ import annotations

import random


def full_jitter(failures: int, base: float, cap: float) -> float:
    """Return the seconds to wait after the n-th failure in a row, uniform in [0, bound].

    The bound is base x 2^(n-1), at most `cap` ("Exponential Backoff And Jitter", AWS 2015).
    """
    bound = min(cap, base * 2.0 ** min(max(failures - 1, 0), 30))
    return random.uniform(0.0, bound)  # noqa: S311 - spreads load, guards nothing
