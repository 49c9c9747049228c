"""Which type each tensor gets so that a file of a given size loses least.

Every tensor offers types, each with its bytes and its cost; costs add up. The choice walks the
lower convex hulls of all tensors, steepest step first (Shoham and Gersho 1988): no other choice
of its size costs less, up to one step.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Offer:
    """A type for one tensor: the bytes that it takes and what rounding to it costs, in nats."""

    type: str
    size: int
    cost: float


@dataclass(frozen=True, slots=True)
class Choice:
    """A type for every tensor, the bytes of all and what they are expected to cost in nats."""

    types: Mapping[str, str]
    size: int
    cost: float


def hull(offers: Sequence[Offer]) -> list[Offer]:
    """Return the offers on the lower convex hull of cost over bytes, the smallest first."""
    best: list[Offer] = []
    for offer in sorted(offers, key=lambda each: (each.size, each.cost, each.type)):
        if best and offer.cost >= best[-1].cost:
            continue
        while len(best) > 1 and _gain(best[-2], best[-1]) <= _gain(best[-1], offer):
            best.pop()
        best.append(offer)
    return best


def smallest(offers: Mapping[str, Sequence[Offer]]) -> int:
    """Return the bytes that no choice goes below."""
    return sum(min(offer.size for offer in each) for each in offers.values())


def largest(offers: Mapping[str, Sequence[Offer]]) -> int:
    """Return the bytes of the choice that costs least, beyond which more save nothing."""
    return sum(hull(each)[-1].size for each in offers.values())


def choose(offers: Mapping[str, Sequence[Offer]], most: int) -> Choice:
    """Return the cheapest choice of at most that many bytes; ValueError where none is so small."""
    if smallest(offers) > most:
        raise ValueError(f"{smallest(offers)} bytes is the least, not {most}")
    hulls = {name: hull(each) for name, each in offers.items()}
    taken = dict.fromkeys(hulls, 0)
    size = sum(each[0].size for each in hulls.values())
    steps = [_step(name, hulls[name], 0) for name in hulls if len(hulls[name]) > 1]
    heapq.heapify(steps)
    while steps:
        _, name, at = heapq.heappop(steps)
        grown = hulls[name][at + 1].size - hulls[name][at].size
        if size + grown > most:
            continue
        taken[name], size = at + 1, size + grown
        if at + 2 < len(hulls[name]):
            heapq.heappush(steps, _step(name, hulls[name], at + 1))
    picked = {name: hulls[name][at] for name, at in taken.items()}
    return Choice(
        {name: offer.type for name, offer in picked.items()},
        size,
        sum(offer.cost for offer in picked.values()),
    )


def size_for(offers: Mapping[str, Sequence[Offer]], cost: float) -> int:
    """Return about the least bytes whose choice is expected to cost at most `cost` nats.

    Where no choice is so cheap it is the size of the cheapest one.
    """
    hulls = {name: hull(each) for name, each in offers.items()}
    size = sum(each[0].size for each in hulls.values())
    spent = sum(each[0].cost for each in hulls.values())
    steps = sorted(
        (_gain(smaller, larger), larger.size - smaller.size, smaller.cost - larger.cost)
        for each in hulls.values()
        for smaller, larger in pairwise(each)
    )
    for _, grown, saved in reversed(steps):
        if spent <= cost:
            break
        size, spent = size + grown, spent - saved
    return size


def _gain(smaller: Offer, larger: Offer) -> float:
    """Nats saved a byte."""
    return (smaller.cost - larger.cost) / max(larger.size - smaller.size, 1)


def _step(name: str, offers: Sequence[Offer], at: int) -> tuple[float, str, int]:
    return -_gain(offers[at], offers[at + 1]), name, at
