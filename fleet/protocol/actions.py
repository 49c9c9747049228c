"""Every kind of job: a row an action, for those who ask and those who do alike."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from edgeward.errors import UnsupportedError

Arguments = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Action:
    """`reads` checks the arguments (UsageError) and may be imported anywhere; `does` is a module.

    That is imported in a child of the agent alone; its `run` is that of `agent.jobs.order.Doer`.
    """

    reads: str
    does: str


ACTIONS = {
    "benchmark": Action(
        reads="edgeward.fleet.protocol.benchmark:read_benchmark",
        does="edgeward.fleet.agent.jobs.benchmark",
    ),
}


def action_named(name: str) -> Action:
    """Return an action; UnsupportedError where there is none of that name."""
    if name not in ACTIONS:
        raise UnsupportedError(
            f"There is no job {name[:40]!a} here",
            why=f"this edgeward knows {', '.join(sorted(ACTIONS))}",
            next="pip install --upgrade edgeward",
        )
    return ACTIONS[name]


def check_arguments(name: str, arguments: Arguments) -> None:
    """Raise UnsupportedError for an unknown action, UsageError for arguments that it has not."""
    module, _, function = action_named(name).reads.partition(":")
    reader = cast(
        "Callable[[Arguments], object]", getattr(importlib.import_module(module), function)
    )
    reader(arguments)
