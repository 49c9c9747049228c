"""A model's config.json, read by key with a type and a range: it is outside input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeward.errors import SourceError

LARGEST = 2**31 - 1
MOST_LAYERS = 10_000


class Config:
    """A section of config.json. `where` names it in errors."""

    def __init__(self, data: Mapping[str, object], where: str = "config.json") -> None:
        self._data = data
        self.where = where

    def has(self, *names: str) -> bool:
        """Say whether one of the keys has a value."""
        return any(self._data.get(name) is not None for name in names)

    def count(self, *names: str, default: int | None = None, least: int = 1) -> int:
        """Return the first of the keys that has a value, a whole number from `least` up.

        Raises SourceError where none has one and there is no default, or where it is no such
        number.
        """
        for name in names:
            value = self._data.get(name)
            if value is not None:
                return self._whole(name, value, least)
        if default is None:
            raise SourceError(
                f"{self.where} does not say {' or '.join(names)}",
                why="without it the model's size and cache cannot be told",
            )
        return default

    def maybe(self, *names: str) -> int | None:
        """Return the first of the keys that has a value, None where none has."""
        return self.count(*names, least=0) if self.has(*names) else None

    def real(self, name: str, default: float) -> float:
        """Return a number that may have a fraction, from 0 up; SourceError where it is none."""
        value = self._data.get(name)
        if value is None:
            return default
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not 0 <= value <= LARGEST
        ):
            raise SourceError(
                f"{self.where}: {name} must be a number from 0 to {LARGEST}",
                why=f"it is {str(value)[:60]!a}",
            )
        return float(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a truth value."""
        value = self._data.get(name)
        return value if isinstance(value, bool) else default

    def text(self, name: str, default: str = "") -> str:
        """Return a text, at most 200 characters of it."""
        value = self._data.get(name)
        return value[:200] if isinstance(value, str) else default

    def words(self, name: str) -> tuple[str, ...]:
        """Return an array of texts, empty where there is none."""
        value = self._data.get(name)
        if not isinstance(value, Sequence) or isinstance(value, str):
            return ()
        return tuple(word[:200] for word in value[:10_000] if isinstance(word, str))

    def numbers(self, name: str) -> tuple[int, ...]:
        """Return an array of whole numbers, empty where there is none."""
        value = self._data.get(name)
        if not isinstance(value, Sequence) or isinstance(value, str):
            return ()
        return tuple(self._whole(name, each, 0) for each in value[:10_000])

    def items(self) -> dict[str, object]:
        """Return what the section holds, as it is."""
        return dict(self._data)

    def section(self, *names: str) -> Config | None:
        """Return the first of the keys that holds a section, None where none does."""
        for name in names:
            value = self._data.get(name)
            if isinstance(value, Mapping):
                return Config(value, f"{self.where}: {name}")
        return None

    def _whole(self, name: str, value: object, least: int) -> int:
        most = MOST_LAYERS if "layer" in name and "types" not in name else LARGEST
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise SourceError(
                f"{self.where}: {name} must be a whole number from {least} to {most}",
                why=f"it is {str(value)[:60]!a}",
            )
        return value
