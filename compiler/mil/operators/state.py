"""States: what a program keeps between two runs."""

from __future__ import annotations

from typing import Any

from ..values import Args


def read_state(args: Args) -> Any:
    """Return what the state holds."""
    return args.tensor("input").value


def update_state(args: Args) -> Any:
    """Put a value into the state and return it."""
    value = args.tensor("value")
    # Its own memory: an operator's output may be a view of something larger.
    args.tensor("state").value = value.clone()
    return value
