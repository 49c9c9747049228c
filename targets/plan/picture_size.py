"""How large the pictures are that a model is fed, by its preprocessor's settings.

A configuration says what size the weights were trained for; DINOv2's says 518 where its
preprocessor cuts pictures to 224, and tokens, memory and time are those of the latter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeGuard

SETTINGS = "preprocessor_config.json"
LARGEST_SIDE = 1 << 14


def side_of(settings: Mapping[str, object]) -> int | None:
    """Return the side of a square as large as the pictures, None where they say none.

    A cut is the last step; without one it is the size, where a shorter edge alone is told of a
    square picture. What is no size says none: the model is planned by its configuration then.
    """
    if _says(settings, "do_center_crop") and (side := _read(settings.get("crop_size"))):
        return side
    return _read(settings.get("size")) if _says(settings, "do_resize") else None


def _says(settings: Mapping[str, object], step: str) -> bool:
    return settings.get(step) is True


def _read(size: object) -> int | None:
    if not isinstance(size, Mapping):
        return size if _is_side(size) else None
    height, width = size.get("height"), size.get("width")
    if _is_side(height) and _is_side(width):
        return math.isqrt(height * width)
    shortest = size.get("shortest_edge")
    return shortest if _is_side(shortest) else None


def _is_side(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 < value <= LARGEST_SIDE
