"""What ONNX Runtime's arena holds of a graph's tensors once it has run twice on a processor.

Regions are taken from the system one by one, each as large as all before it. In each run the
tensors come one by one, the smallest free chunk that holds one is taken, of equal ones that at the
lowest address, where the system puts what is newest. No region is given back, and the second run
finds those of the first, cut otherwise. Source: onnxruntime/core/framework/bfc_arena.cc, strategy
kNextPowerOfTwo; no run is planned as one block (`runtimes/engines/onnxruntime.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .layout_steps import MAP, Held, Step

_FIRST = 1 << 20
_SMALLEST = 256
_WIDE = 4
_RUNS = 2


@dataclass(slots=True)
class _Chunk:
    """A part of a region, in bytes from the region's begin."""

    begin: int
    size: int
    free: bool = True


class _Arena:
    def __init__(self) -> None:
        self._regions: list[list[_Chunk]] = []
        self._reached: list[int] = []
        self._next = _FIRST

    @property
    def touched(self) -> int:
        """Bytes that were ever written, up to the farthest of each region."""
        return sum(self._reached)

    def take(self, size: int) -> tuple[int, _Chunk]:
        wanted = max(_SMALLEST, -(-size // _SMALLEST) * _SMALLEST)
        fits = [
            (chunk.size, -number, chunk.begin, chunk)
            for number, chunks in enumerate(self._regions)
            for chunk in chunks
            if chunk.free and chunk.size >= wanted
        ]
        if fits:
            _, newest, _, chunk = min(fits, key=lambda found: found[:3])
            number = -newest
        else:
            number, chunk = self._extended(wanted)
        self._split(number, chunk, wanted)
        chunk.free = False
        self._reached[number] = max(self._reached[number], chunk.begin + wanted)
        return number, chunk

    def give(self, number: int, chunk: _Chunk) -> None:
        chunk.free = True
        chunks = self._regions[number]
        at = next(place for place, each in enumerate(chunks) if each is chunk)
        if at + 1 < len(chunks) and chunks[at + 1].free:
            chunk.size += chunks.pop(at + 1).size
        if at > 0 and chunks[at - 1].free:
            chunks[at - 1].size += chunks.pop(at).size

    def _extended(self, wanted: int) -> tuple[int, _Chunk]:
        grows = wanted > self._next
        while wanted > self._next:
            self._next *= 2
        chunk = _Chunk(0, self._next)
        self._regions.append([chunk])
        self._reached.append(0)
        self._next *= 1 if grows else 2
        return len(self._regions) - 1, chunk

    def _split(self, number: int, chunk: _Chunk, wanted: int) -> None:
        """A chunk that is not twice as large is given whole."""
        if chunk.size < 2 * wanted:
            return
        rest = _Chunk(chunk.begin + wanted, chunk.size - wanted)
        chunk.size = wanted
        chunks = self._regions[number]
        at = next(place for place, each in enumerate(chunks) if each is chunk)
        chunks.insert(at + 1, rest)


def held_bytes(steps: Sequence[Step]) -> int:
    """Return the bytes of float32 tensors that stand in the arena after two runs."""
    arena = _Arena()
    for _ in range(_RUNS):
        _follow(steps, arena)
    return arena.touched


def _follow(steps: Sequence[Step], arena: _Arena) -> None:
    """Take what a step needs and give back what none after it does, then the rest."""
    taken: dict[Held, list[tuple[int, _Chunk]]] = {}
    for wanted in (*_standing(steps), Counter[Held]()):
        for held, places in taken.items():
            while len(places) > wanted[held]:
                arena.give(*places.pop())
        for held, count in wanted.items():
            places = taken.setdefault(held, [])
            places += [arena.take(_WIDE * held[1]) for _ in range(count - len(places))]


def _standing(steps: Sequence[Step]) -> Iterator[Counter[Held]]:
    """Give what stands at each step: maps as they are needed, other forms until their last."""
    last: dict[Held, int] = {}
    for at, step in enumerate(steps):
        last.update(dict.fromkeys(step.kept, at))
    kept: Counter[Held] = Counter()
    for at, step in enumerate(steps):
        here = Counter(step.kept)
        kept = Counter({held: count for held, count in kept.items() if last[held] >= at})
        yield kept | here
        kept |= Counter({held: count for held, count in here.items() if held[0] != MAP})
