"""One spelling for a JSON value, so that equal values have equal digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

JSON = None | bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"]


def canonical_json(value: JSON) -> bytes:
    """Return `value` as JSON with sorted keys, no spaces and ASCII only.

    Raises ValueError for NaN and infinity, TypeError for what is not JSON (keys that are not
    strings too: `1` and `"1"` would meet).
    """
    _refuse_odd_keys(value)
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return text.encode("ascii")


def digest(value: JSON) -> str:
    """Return the sha256 of the canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def _refuse_odd_keys(value: object) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"a key that is not a string: {key!r}")
            _refuse_odd_keys(item)
        return
    if isinstance(value, (list, tuple)):
        for item in value:
            _refuse_odd_keys(item)
