"""The shape of a profile's TOML: every key, its type and its range, as one table of readers.

A reader takes a value and its key and returns the value in the units that `profile` uses, or
raises `Bad` with the key that is wrong. One file is checked by itself, before it is merged with
what it extends, so that an error names the file that holds it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches

from .locate import Key
from .profile import DTYPES, SHAPE_MODES, UNIT_KINDS
from .units import parse_bandwidth, parse_rate, parse_size
from .versions import check_constraint

Reader = Callable[[object, Key], object]

MAX_ITEMS = 64
NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
PRECISION = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")
# A target's own name: a cloud's machines keep their dots (inf2.xlarge).
TARGET = re.compile(r"(?=.{1,63}\Z)[a-z0-9]+(?:(?:-+|\.)[a-z0-9]+)*")
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
ARCHES = ("x86_64", "aarch64", "armv7l", "armv7em", "riscv64", "arm64")


class Bad(Exception):  # noqa: N818 - never leaves the room: `load` turns it into a ProfileError
    """A key whose value cannot be taken, and why."""

    def __init__(self, key: Key, why: str) -> None:
        super().__init__(why)
        self.key = key
        self.why = why


def text(limit: int = 200) -> Reader:
    """Read printable text of at most `limit` characters."""

    def read(value: object, key: Key) -> str:
        if not isinstance(value, str):
            raise Bad(key, f"must be text, not {_kind(value)}")
        if not value or len(value) > limit:
            raise Bad(key, f"must have 1 to {limit} characters, has {len(value)}")
        if not value.replace("\n", " ").isprintable():
            raise Bad(key, "holds characters that cannot be printed")
        return value

    return read


def matching(pattern: re.Pattern[str], what: str) -> Reader:
    """Read text that a pattern describes."""

    def read(value: object, key: Key) -> str:
        if not isinstance(value, str) or pattern.fullmatch(value) is None:
            raise Bad(key, f"must be {what}, not {_shown(value)}")
        return value

    return read


def choice(*choices: str) -> Reader:
    """Read one of a few words."""

    def read(value: object, key: Key) -> str:
        if not isinstance(value, str) or value not in choices:
            raise Bad(key, f"must be one of {', '.join(choices)}, not {_shown(value)}")
        return value

    return read


def integer(low: int, high: int) -> Reader:
    """Read a whole number in a range."""

    def read(value: object, key: Key) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Bad(key, f"must be a whole number, not {_kind(value)}")
        if not low <= value <= high:
            raise Bad(key, f"must be between {low} and {high}")
        return value

    return read


def number(low: float, high: float) -> Reader:
    """Read a finite number in a range as a float."""

    def read(value: object, key: Key) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Bad(key, f"must be a number, not {_kind(value)}")
        if not (low <= value <= high and math.isfinite(value)):
            raise Bad(key, f"must be between {low:g} and {high:g}")
        return float(value)

    return read


def flag(value: object, key: Key) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise Bad(key, f"must be true or false, not {_kind(value)}")
    return value


def quantity(parse: Callable[[str], int]) -> Reader:
    """Read text with a number and a unit into the base unit."""

    def read(value: object, key: Key) -> int:
        if not isinstance(value, str):
            raise Bad(key, f'must be text with a unit such as "8 GiB", not {_kind(value)}')
        try:
            return parse(value)
        except ValueError as error:
            raise Bad(key, str(error)) from error

    return read


def constraint(value: object, key: Key) -> str:
    """Read a version constraint."""
    if not isinstance(value, str):
        raise Bad(key, f'must be a version constraint such as ">=1.23", not {_kind(value)}')
    try:
        check_constraint(value)
    except ValueError as error:
        raise Bad(key, str(error)) from error
    return value


def many(reader: Reader, *, least: int = 1) -> Reader:
    """Read an array whose items differ from each other."""

    def read(value: object, key: Key) -> list[object]:
        if not isinstance(value, list):
            raise Bad(key, f"must be an array, not {_kind(value)}")
        if not least <= len(value) <= MAX_ITEMS:
            raise Bad(key, f"must have {least} to {MAX_ITEMS} items, has {len(value)}")
        items = [reader(item, (*key, str(index))) for index, item in enumerate(value)]
        if any(item in items[:index] for index, item in enumerate(items)):
            raise Bad(key, "names something twice")
        return items

    return read


def table(fields: Mapping[str, Reader]) -> Reader:
    """Read a table of known keys."""

    def read(value: object, key: Key) -> dict[str, object]:
        checked = {}
        for name, item in _as_table(value, key).items():
            if name not in fields:
                raise Bad((*key, name), f"is not a key of a profile{_closest(name, fields)}")
            checked[name] = fields[name](item, (*key, name))
        return checked

    return read


def named(reader: Reader, names: Reader) -> Reader:
    """Read a table whose keys are the author's own, checked by `names`."""

    def read(value: object, key: Key) -> dict[str, object]:
        entries = _as_table(value, key)
        if len(entries) > MAX_ITEMS:
            raise Bad(key, f"must have at most {MAX_ITEMS} entries, has {len(entries)}")
        checked = {}
        for name, item in entries.items():
            names(name, (*key, name))
            checked[name] = reader(item, (*key, name))
        return checked

    return read


def _as_table(value: object, key: Key) -> dict[str, object]:
    if not isinstance(value, dict):
        raise Bad(key, f"must be a table, not {_kind(value)}")
    return value


def _closest(name: str, known: Mapping[str, Reader]) -> str:
    close = get_close_matches(name[:100], known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known here: {', '.join(known)}"


def _kind(value: object) -> str:
    kinds = {str: "text", bool: "true/false", int: "a number", float: "a number"}
    kinds |= {list: "an array", dict: "a table"}
    return kinds.get(type(value), "a date")


def _shown(value: object) -> str:
    return ascii(value[:60]) if isinstance(value, str) else _kind(value)


_SIZE = quantity(parse_size)
_NAME = matching(NAME, "a name of a-z, 0-9 and hyphens")
_PRECISION = matching(PRECISION, "a precision of a-z, 0-9, '_' and hyphens")
_WORD = matching(WORD, "a word of letters, digits, '_', '.' and '-'")

_UNIT = table(
    {
        "kind": choice(*UNIT_KINDS),
        "title": text(),
        "rates": named(quantity(parse_rate), choice(*DTYPES)),
    }
)
# Of the float32 rate, which narrower types may exceed.
_SHARE = number(0.0001, 16.0)
_REACHED = table(
    {
        "attention": _SHARE,
        "attention_held": _SHARE,
        "cache": _SHARE,
        "cache_held": _SHARE,
        "near": _SHARE,
        "written": _SHARE,
        "token": named(_SHARE, _PRECISION),
        "held": named(_SHARE, _PRECISION),
        "prompt": named(_SHARE, _PRECISION),
    }
)
_RECIPE: dict[str, Reader] = {"format": _NAME, "precision": _PRECISION}
_ENGINE = table(
    {
        "name": _NAME,
        "version": constraint,
        "python": constraint,
        "providers": many(_WORD),
        "only": named(many(_WORD), _PRECISION),
        "builds": many(_PRECISION),
    }
)
PROFILE = table(
    {
        "title": text(100),
        "description": text(2000),
        "extends": matching(TARGET, "a target's name"),
        "abstract": flag,
        "hardware": table(
            {
                "arch": choice(*ARCHES),
                "cores": integer(1, 4096),
                "memory": _SIZE,
                "usable_memory": _SIZE,
                "memory_bandwidth": quantity(parse_bandwidth),
                "disk": _SIZE,
                "core_memory": _SIZE,
                "unified": flag,
                "watts": number(0.001, 100_000),
                "achieved": named(number(0.001, 2.0), choice("bandwidth", "compute")),
                "kernels": named(_REACHED, _NAME),
                "units": named(_UNIT, _NAME),
            }
        ),
        "engines": many(_ENGINE),
        "formats": named(many(_PRECISION), _NAME),
        "default": table({**_RECIPE, "otherwise": table(_RECIPE)}),
        "shapes": table(
            {
                "mode": choice(*SHAPE_MODES),
                "allowed": named(many(integer(1, 10**7)), _WORD),
            }
        ),
        "limits": table({"opset_max": integer(7, 1000), "ir_max": integer(3, 1000)}),
        "container": table({"image": text()}),
        "power_modes": many(table({"name": _WORD, "watts": number(0.1, 10_000)})),
        "price": table(
            {
                "usd_per_hour": number(0.0001, 100_000),
                "region": _WORD,
                "as_of": matching(re.compile(r"20[0-9]{2}-(?:0[1-9]|1[0-2])"), 'like "2025-06"'),
            }
        ),
        "gate": table(
            {
                "max_temperature_c": number(30, 125),
                "max_memory": _SIZE,
                "max_latency_ms": number(0.001, 3_600_000),
                "max_latency_ratio": number(0.001, 100_000),
            }
        ),
        "match": table(
            {
                "device_tree": many(text(100)),
                "gpu": many(text(100)),
                "l4t": constraint,
                "compute_capability": matching(re.compile(r"[0-9]{1,2}\.[0-9]"), 'like "8.7"'),
                "cpu_flags": many(_WORD),
                "memory_min": _SIZE,
                "memory_max": _SIZE,
                "priority": integer(0, 1000),
            }
        ),
        "sources": named(text(500), text()),
    }
)
