"""The rule that every number of the hardware, and every price, has its source.

A source covers its key and whatever lies below it. A file that changes a number must cite it
again: the citation that it inherits speaks of another number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .locate import Key
from .schema import Bad

_CITED = ("hardware", "price")


def check_sources(layers: Sequence[Mapping[str, object]]) -> None:
    """Raise Bad for the first hardware number without a source, or source without a key.

    `layers` are the checked documents, the root of the inheritance first.
    """
    set_in: dict[Key, int] = {}
    cited_in: dict[Key, int] = {}
    every_key: set[Key] = set()
    for depth, layer in enumerate(layers):
        for key, value in _leaves(layer, ()):
            every_key.update(key[:length] for length in range(1, len(key) + 1))
            if key[0] in _CITED and _is_number(value):
                set_in[key] = depth
        for dotted in _sources(layer):
            cited_in[tuple(dotted.split("."))] = depth
    _check_dangling(cited_in, every_key)
    for key, depth in set_in.items():
        cited = [cited_in.get(key[:length], -1) for length in range(1, len(key) + 1)]
        if max(cited) < depth:
            raise Bad(key, _missing(".".join(key), cited_before=max(cited) >= 0))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_dangling(cited_in: Mapping[Key, int], every_key: set[Key]) -> None:
    for key in cited_in:
        if key not in every_key or key[0] == "sources":
            raise Bad(("sources", ".".join(key)), "is the source of a key that is not there")


def _missing(dotted: str, *, cited_before: bool) -> str:
    if cited_before:
        return f'is changed here and needs its own source: sources."{dotted}"'
    return f'is a number without a source: add sources."{dotted}"'


def _sources(layer: Mapping[str, object]) -> list[str]:
    sources = layer.get("sources")
    return list(sources) if isinstance(sources, dict) else []


def _leaves(value: object, key: Key) -> list[tuple[Key, object]]:
    if isinstance(value, Mapping):
        return [leaf for name, item in value.items() for leaf in _leaves(item, (*key, str(name)))]
    return [(key, value)]
