"""The options of TFLite's own, read before any work."""

from __future__ import annotations

from edgeward.errors import UsageError

from .base import Job

ROTATION = "rotation"
OPTIONS = frozenset({ROTATION})
HADAMARD, NONE = "hadamard", "none"
_ROTATED = "int8-dynamic"


def rotation_of(job: Job) -> dict[str, str | int | float | bool]:
    """Return what `rotation=hadamard` asks for; UsageError where it is for another precision.

    Activations are turned before they are rounded, which spreads their outliers: nearer to the
    original, and slower where floats are (`benchmarks/mobile/tflite.py`).
    """
    given = job.options.get(ROTATION)
    if not given:
        return {}
    if len(given) > 1 or given[0] not in (HADAMARD, NONE):
        raise UsageError(
            f"{ROTATION}={given[-1][:20]} is not known", why=f"there are {HADAMARD} and {NONE}"
        )
    if job.recipe.precision != _ROTATED:
        why = f"{_ROTATED} alone rounds activations as they come"
        raise UsageError(f"{job.recipe.precision} has no {ROTATION}", why=why)
    return {ROTATION: given[0]}
