"""Options of a format's own, as they are given: `name=value`, a name any number of times."""

from __future__ import annotations

from collections.abc import Iterable

from edgeward.errors import UsageError


def parse_options(given: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return each option's values in order; UsageError where one is no `name=value`."""
    found: dict[str, tuple[str, ...]] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise UsageError(f"{text!r} is no option", why="expected name=value")
        found[name.strip()] = (*found.get(name.strip(), ()), value.strip())
    return found
