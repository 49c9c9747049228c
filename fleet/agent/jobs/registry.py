"""What a device can be asked to do: a row an action."""

from __future__ import annotations

import importlib
from typing import Any, Protocol, cast

from edgeward.errors import UnsupportedError

from .order import Order

ACTIONS: dict[str, str] = {"benchmark": "edgeward.fleet.agent.jobs.benchmark"}


class Action(Protocol):
    """A module of an action; it runs in a child of the agent and may take it down."""

    def run(self, order: Order) -> dict[str, Any]:
        """Do it and return its result, at most `MAX_RESULT_BYTES` of JSON.

        RefusedJobError or UsageError where this device cannot; any other error is a failure.
        """
        ...


def action_named(name: str) -> Action:
    """Return an action; UnsupportedError where there is none of that name."""
    if name not in ACTIONS:
        raise UnsupportedError(
            f"This device knows no job {name}",
            why=f"its edgeward knows {', '.join(sorted(ACTIONS))}",
            next="pip install --upgrade edgeward",
        )
    return cast(Action, importlib.import_module(ACTIONS[name]))
