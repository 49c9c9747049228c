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
_SIDES = ("height", "width")


def side_of(settings: Mapping[str, object]) -> int | None:
    """Return the side of a square as large as the pictures, None where the settings say none.

    The steps are those of `edgeward.runtimes.tasks.pictures`, which needs numpy: a cut is the last
    one, a shorter edge alone leaves the other to the picture. What is no size says none: the model
    is planned by its configuration then.
    """
    size, cut = settings.get("size"), settings.get("crop_size")
    if settings.get("do_center_crop") is True and (side := _square(cut)):
        return side
    if settings.get("do_resize", True) is not True:
        return None
    if isinstance(size, Mapping) and "shortest_edge" in size:
        shortest = size["shortest_edge"]
        is_square = isinstance(settings.get("crop_pct"), float) and _is_side(shortest)
        return shortest if is_square else None
    return _square(size)


def _square(size: object) -> int | None:
    if _is_side(size):
        return size
    sides = [size.get(name) for name in _SIDES] if isinstance(size, Mapping) else size
    if not isinstance(sides, list) or len(sides) != len(_SIDES):
        return None
    height, width = sides
    return math.isqrt(height * width) if _is_side(height) and _is_side(width) else None


def _is_side(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 < value <= LARGEST_SIDE
