"""How engines work that have rules of memory of their own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Packing:
    """Habits of the engine on a processor.

    A generator has `signatures` graphs: one that reads `piece` tokens of a prompt at once (`heard`
    where an encoder was read before) and one that writes. Each graph holds `layer` bytes a layer. A
    cache stands `caches` times, what a call reads and what it writes; the logits of a piece stand
    `logits` times. A layer's attention holds its scores `scores` times and, `joined` times, as many
    numbers as all heads see of the keys, every slot of the cache among them. A generator's runtime
    takes `generator` bytes more than another's.

    A step's attention moves each number that a head sees `moved` times through memory: the first
    where a layer's numbers take no more than `near` bytes, which a processor's own cache holds.
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


@dataclass(frozen=True, slots=True)
class Ggml:
    """Bytes that llama.cpp's vocabulary takes an entry: of one with merges, of one without."""

    merged: int
    plain: int
