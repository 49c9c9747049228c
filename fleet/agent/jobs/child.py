"""`python -m edgeward.fleet.agent.jobs.child ORDER`: do one job and print its answer as JSON."""

from __future__ import annotations

import importlib
import os
import sys
from typing import cast

from edgeward.errors import EdgewardError, MissingError, UnsupportedError, UsageError
from edgeward.runtimes.bundle.canonical import canonical_bytes

from ...protocol.actions import action_named
from ...protocol.jobs import JobState, check_result_size
from ..endings import problem_of
from .order import Answer, Doer, Order, RefusedJobError

REFUSALS = (RefusedJobError, UsageError, UnsupportedError, MissingError)


def main(arguments: list[str]) -> None:
    """Do the job; its answer is all that reaches stdout."""
    out = os.dup(1)
    os.dup2(2, 1)
    answer = answered(Order.model_validate_json(arguments[0]))
    with os.fdopen(out, "wb") as file:
        file.write(canonical_bytes(answer.model_dump(mode="json")))


def answered(order: Order) -> Answer:
    """Return how the job went."""
    try:
        does = action_named(order.job.action).does
        result = check_result_size(cast(Doer, importlib.import_module(does)).run(order))
    except REFUSALS as error:
        return Answer(state=JobState.REFUSED, problem=problem_of(error))
    except (EdgewardError, OSError) as error:
        return Answer(state=JobState.FAILED, problem=problem_of(error))
    return Answer(state=JobState.DONE, result=result)


if __name__ == "__main__":
    main(sys.argv[1:])
