"""Which models have a form for mobile engines, and which of those one format alone cannot take.

Each pair is proved by a slow test on a tiny random model (`tests/compiler/mobile/test_front.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

from edgeward.compiler.architectures import MODEL_TYPES, Coverage
from edgeward.compiler.tasks import TASKS

Pair = tuple[str, str]
_FRONTS = {task: types for task, types in MODEL_TYPES.items() if not TASKS[task].generates}
# Tasks that write token by token: theirs is a cache of slots, not a front end of fixed shapes.
_WRITERS: dict[str, frozenset[str]] = {}
MOBILE = Coverage({**_FRONTS, **_WRITERS})
# By format: the pair, and what its converter or engine cannot do.
REFUSED: Mapping[str, Mapping[Pair, str]] = {"tflite": {}, "coreml": {}}


def coverage_of(format_name: str) -> Coverage:
    """Return what one format takes."""
    refused = REFUSED[format_name]
    return Coverage(
        {
            task: frozenset(t for t in types if (task, t) not in refused)
            for task, types in MOBILE.model_types.items()
        }
    )


def front_pairs() -> list[Pair]:
    """Return the (task, model type) pairs that have a front end of fixed shapes."""
    return [(task, model_type) for task, types in _FRONTS.items() for model_type in sorted(types)]
