"""Control flow."""

from __future__ import annotations

from typing import Any

from ..values import Args


def cond(args: Args) -> Any:
    """Run the first block where the predicate holds, else the second."""
    return tuple(args.blocks[0 if args.flag("pred") else 1](()))


def while_loop(args: Args) -> Any:
    """Run the second block on its own outputs while the first says so."""
    test, body = args.blocks
    values = list(args.tensors("loop_vars"))
    while bool(test(values)[0]):
        values = list(body(values))
    return tuple(values)


def classify(args: Args) -> Any:
    """Return the likeliest class, and the probabilities in the classes' order."""
    probabilities = args.tensor("probabilities").reshape(-1)
    return args.values["classes"][int(probabilities.argmax())], probabilities
