"""What a job's artifact is held to."""

from __future__ import annotations

from .formats.base import Job
from .formats.registry import format_module
from .tasks import task_spec
from .tolerance import Tolerances
from .tolerances import tolerances_for


def tolerances_of(job: Job) -> Tolerances:
    """Return the bounds of the job's format for its precision and task."""
    table = format_module(job.recipe.format).tolerances()
    return tolerances_for(job.recipe.precision, task_spec(job.source.task), table)
