"""Quantities as profiles write them: a number, a space, a unit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

SIZES: Mapping[str, int] = {
    "B": 1,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
BANDWIDTHS: Mapping[str, int] = {f"{unit}/s": factor for unit, factor in SIZES.items()}
RATES: Mapping[str, int] = {"op/s": 1, "Mop/s": 10**6, "Gop/s": 10**9, "Top/s": 10**12}
LARGEST = 2**63 - 1
_QUANTITY = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?) ([A-Za-z/]{1,8})")


def parse_size(text: str) -> int:
    """Return bytes from "8 GiB" (binary) or "8 GB" (decimal); ValueError says what is wrong."""
    return _parse(text, SIZES, "8 GiB")


def parse_bandwidth(text: str) -> int:
    """Return bytes per second from "68 GB/s"; ValueError says what is wrong."""
    return _parse(text, BANDWIDTHS, "68 GB/s")


def parse_rate(text: str) -> int:
    """Return operations per second from "1.28 Top/s"; ValueError says what is wrong.

    A multiply-accumulate counts as two operations, as vendors count.
    """
    return _parse(text, RATES, "1.28 Top/s")


def format_size(count: int) -> str:
    """Return bytes so that `parse_size` gives exactly the same number back."""
    return _exact(count, SIZES, ("TiB", "GiB", "GB", "MiB", "MB", "KiB", "B"))


def format_bandwidth(count: int) -> str:
    """Return bytes per second so that `parse_bandwidth` gives the same number back."""
    return _exact(count, BANDWIDTHS, ("GB/s", "MB/s", "B/s"))


def format_rate(count: int) -> str:
    """Return operations per second so that `parse_rate` gives the same number back."""
    return _exact(count, RATES, ("Top/s", "Gop/s", "Mop/s", "op/s"))


def about(count: int) -> str:
    """Return bytes rounded for people: "1.1 GiB"."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if 2 * count >= SIZES[unit]:
            return f"{count / SIZES[unit]:.1f} {unit}"
    return f"{count} B"


def _parse(text: str, units: Mapping[str, int], example: str) -> int:
    found = _QUANTITY.fullmatch(text)
    if found is None or found[2] not in units:
        raise ValueError(f'must be a number, a space and a unit ({", ".join(units)}): "{example}"')
    value = Decimal(found[1]) * units[found[2]]
    if not 0 < value <= LARGEST:
        raise ValueError("is out of range")
    return max(1, int(value.to_integral_value()))


def _exact(count: int, units: Mapping[str, int], order: tuple[str, ...]) -> str:
    for unit in order[:-1]:
        thousandths, rest = divmod(count * 1000, units[unit])
        if rest == 0 and thousandths >= 1000:
            return f"{Decimal(thousandths).scaleb(-3).normalize():f} {unit}"
    return f"{count} {order[-1]}"
