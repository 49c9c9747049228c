"""Waves: which device of a rollout comes when.

Devices are ordered by the sha256 of rollout and device, so every rollout has other first
devices; a wave takes the next share of that order. A share counts devices exactly (half of two
devices is one), and the first wave has at least one. Membership is fixed when the rollout is
created and stored with it: a device's wave never changes afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import pairwise

from edgeward.errors import UsageError

MAX_WAVES = 20
_ROUNDING = 1e-9


def check_waves(waves: Sequence[float]) -> tuple[float, ...]:
    """Return cumulative shares such as (0.01, 0.1, 1.0); UsageError where they are not such."""
    rising = all(low < high for low, high in pairwise(waves))
    if not waves or len(waves) > MAX_WAVES or not rising or waves[0] <= 0 or waves[-1] != 1:
        raise UsageError(
            "The waves have to rise to 100%",
            why=f"each is the share of devices reached by then, at most {MAX_WAVES} of them",
            next="--waves 1%,10%,100%",
        )
    return tuple(float(share) for share in waves)


def assign(devices: Iterable[str], rollout: str, waves: Sequence[float]) -> dict[str, int]:
    """Return each device's wave (0 is the first) for cumulative shares `waves`."""
    shares = check_waves(waves)
    order = sorted(set(devices), key=lambda device: _rank(device, rollout))
    ends = [_end(share, len(order)) for share in shares]
    found: dict[str, int] = {}
    for position, device in enumerate(order):
        found[device] = next(wave for wave, end in enumerate(ends) if position < end)
    return found


def _end(share: float, total: int) -> int:
    return max(1, int(share * total + _ROUNDING))


def _rank(device: str, rollout: str) -> bytes:
    return hashlib.sha256(f"{rollout}\0{device}".encode()).digest()
