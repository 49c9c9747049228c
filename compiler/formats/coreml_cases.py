"""What a device is held to: calls of the finished package and their outputs, as one file.

An array is called CASE/CALL/WHERE/in|out/NAME. WHERE is the function that is called, empty where a
package has but one, and `PART:FUNCTION` of a graph beside the model. Calls of a case share states;
a later one takes what an earlier one took or gave, unless it has its own: `new_NAME` as NAME.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CASES = "on_device.npz"
_MOST_NUMBERS = 1 << 18
Arrays = dict[str, NDArray[Any]]


class Cases:
    """Gathers the calls."""

    def __init__(self) -> None:
        self._held: Arrays = {}

    def hold(
        self,
        place: tuple[int, int, str],
        given: Mapping[str, NDArray[Any]],
        found: Mapping[str, NDArray[Any]],
    ) -> None:
        """Keep a call; of outputs that are large the last along the second axis."""
        start = "/".join(map(str, place))
        for name, value in given.items():
            self._held[f"{start}/in/{name}"] = value
        for name, value in found.items():
            large = value.ndim > 1 and value.size > _MOST_NUMBERS
            kept = value[:, -1:] if large else value
            self._held[f"{start}/out/{name}"] = kept.astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write the file."""
        arrays: dict[str, Any] = {**self._held}
        np.savez_compressed(folder / CASES, **arrays)
