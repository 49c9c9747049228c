"""The two files of golden inputs that are listed case by case: what is told, and its tensors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray

from edgeward.errors import IntegrityError, UsageError

from .files import CASES_NAME, MAX_CASES_BYTES, REFERENCE_NAME

Tensors = dict[str, NDArray[Any]]
T = TypeVar("T")


def write_listed(
    folder: Path, stated: Sequence[Mapping[str, Any]], tensors: Mapping[str, NDArray[Any]]
) -> None:
    """Write both files below `folder`, under the names that a bundle gives them."""
    from safetensors.numpy import save_file

    (folder / CASES_NAME).parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"version": 1, "cases": list(stated)}, ensure_ascii=False)
    (folder / CASES_NAME).write_text(text + "\n", encoding="utf-8")
    save_file(dict(tensors), folder / REFERENCE_NAME)


def read_listed(folder: Path, parse: Callable[[Any, Tensors, int], T]) -> tuple[T, ...]:
    """Read both files; `parse` takes what is told of a case, all tensors, and the case's number.

    Raises IntegrityError where they are damaged, hold no case or do not belong together.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        with (folder / CASES_NAME).open("rb") as file:
            listed = json.loads(file.read(MAX_CASES_BYTES))["cases"]
        tensors = load_file(folder / REFERENCE_NAME)
        cases = tuple(parse(stated, tensors, number) for number, stated in enumerate(listed))
        if not cases:
            raise ValueError("there are none")
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError),
        SafetensorError,
        UsageError,
    ) as error:
        raise IntegrityError(f"The golden inputs of {folder} are damaged", why=str(error)) from None
    return cases
