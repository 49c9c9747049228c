"""How engines work that have rules of memory of their own."""

from __future__ import annotations

import math
from dataclasses import dataclass

_FAR = 8 << 20


@dataclass(frozen=True, slots=True)
class Packing:
    """Habits of the engine on a processor.

    A generator has `signatures` graphs: one that reads `piece` tokens of a prompt at once (`heard`
    where an encoder was read before) and one that writes. Each holds `layer` bytes a layer. A
    cache stands `caches` times, what a call reads and what it writes; the logits of a piece stand
    `logits` times. The attention of what reads once holds its scores `scores` times and, `joined`
    times, as many numbers as all heads see of the keys. A generator's runtime takes `generator`
    bytes more than another's.

    A step's attention moves each number that a head sees `moved` times through memory: the first
    where a layer's numbers take no more than `near` bytes, which a processor's own cache holds. A
    prompt's masks and softmax take as long as moving `scored` bytes for each of its scores.
    """

    signatures: int
    piece: int
    heard: int
    layer: int
    caches: int
    logits: int
    scores: int
    joined: int
    generator: int
    moved: tuple[float, float]
    near: int
    scored: int


@dataclass(frozen=True, slots=True)
class SlotShares:
    """The shares of the bandwidth at which a step goes through all slots of a cache, as measured.

    `far` is that of a layer whose heads see 8 MiB, `near` of one that sees 2, `written` that at
    which what is cached is written anew. Caches hold ever less of more: between and beyond them,
    each doubling costs the same.
    """

    far: float
    near: float | None = None
    written: float | None = None

    def reading(self, layer_bytes: float) -> float:
        """Return how often the memory could be read while a layer's heads see so many bytes."""
        far = 1 / self.far
        if self.near is None or layer_bytes <= 0:
            return far
        doubled = (far - 1 / self.near) / 2
        return min(2 * far, max(far / 2, far + doubled * math.log2(layer_bytes / _FAR)))


@dataclass(frozen=True, slots=True)
class Ggml:
    """Bytes that llama.cpp's vocabulary takes an entry: of one with merges, of one without."""

    merged: int
    plain: int
