"""Recurrent layers, step by step.

Formulas and the order of the gates: docstrings of coremltools' iOS15 and iOS18 operators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from ..values import Args

Step = Callable[[Any, Any], Any]
_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "linear": lambda x: x,
    "hard_sigmoid": lambda x: (0.2 * x + 0.5).clamp(0, 1),
    "scaled_tanh": lambda x: 1.7159 * torch.tanh(2 / 3 * x),
}


def lstm(args: Args) -> Any:
    """Return the hidden states (sequence or 1, rows, width), the last of them and of the cells."""
    x, both = args.tensor("x"), args.text("direction", "forward") == "bidirectional"
    ways = [("", False), ("_back", True)] if both else [("", _reversed(args))]
    hidden, cell = args.tensor("initial_h"), args.tensor("initial_c")
    width = args.tensor("weight_hh").shape[1]
    found = []
    for at, (suffix, back) in enumerate(ways):
        start = tuple(one[:, at * width : (at + 1) * width] for one in (hidden, cell))
        found.append(_walk(x, start, _lstm_step(args, suffix), back))
    states = torch.cat([one[0] for one in found], -1)
    last = [torch.cat([one[1][at] for one in found], -1) for at in (0, 1)]
    whole = states if args.flag("output_sequence") else last[0].unsqueeze(0)
    return whole, last[0], last[1]


def _lstm_step(args: Args, suffix: str) -> Step:
    weights = [args.tensor(f"weight_{one}{suffix}") for one in ("ih", "hh")]
    bias, peephole = args.maybe(f"bias{suffix}"), args.maybe(f"peephole{suffix}")
    gate = _ACTIVATIONS[args.text("recurrent_activation", "sigmoid")]
    inner = _ACTIVATIONS[args.text("cell_activation", "tanh")]
    outer = _ACTIVATIONS[args.text("activation", "tanh")]
    looks = (0, 0, 0) if peephole is None else peephole.chunk(3)
    limit = args.real("clip") if args.has("clip") else None

    def step(x: Any, state: Any) -> Any:
        hidden, cell = state
        parts = (F.linear(x, weights[0], bias) + F.linear(hidden, weights[1])).chunk(4, -1)
        new = inner(parts[3])
        if limit is not None:
            new = new.clamp(-limit, limit)
        kept = gate(parts[1] + looks[1] * cell) * cell
        cell = kept + gate(parts[0] + looks[0] * cell) * new
        return gate(parts[2] + looks[2] * cell) * outer(cell), cell

    return step


def gru(args: Args) -> Any:
    """Return the hidden states (sequence or 1, rows, width) and the last of them."""
    into, over = args.tensor("weight_ih"), args.tensor("weight_hh")
    bias, given = args.maybe("bias"), args.maybe("input_bias")
    gate = _ACTIVATIONS[args.text("recurrent_activation", "sigmoid")]
    outer = _ACTIVATIONS[args.text("activation", "tanh")]
    after = args.flag("reset_after")

    def step(x: Any, state: Any) -> Any:
        hidden = state[0]
        reset_x, new_x, keep_x = F.linear(x, into, given).chunk(3, -1)
        biases = (0, 0, 0) if bias is None else bias.chunk(3)
        reset_w, new_w, keep_w = over.chunk(3)
        reset = gate(reset_x + F.linear(hidden, reset_w) + biases[0])
        keep = gate(keep_x + F.linear(hidden, keep_w) + biases[2])
        if after:
            new = outer(new_x + reset * (F.linear(hidden, new_w) + biases[1]))
        else:
            new = outer(new_x + F.linear(reset * hidden, new_w) + biases[1])
        return ((1 - keep) * new + keep * hidden,)

    return _plain(args, step)


def rnn(args: Args) -> Any:
    """Return the hidden states (sequence or 1, rows, width) and the last of them."""
    into, over, bias = args.tensor("weight_ih"), args.tensor("weight_hh"), args.maybe("bias")
    outer = _ACTIVATIONS[args.text("activation", "tanh")]

    def step(x: Any, state: Any) -> Any:
        return (outer(F.linear(x, into, bias) + F.linear(state[0], over)),)

    return _plain(args, step)


def _plain(args: Args, step: Step) -> Any:
    states, last = _walk(args.tensor("x"), (args.tensor("initial_h"),), step, _reversed(args))
    return (states if args.flag("output_sequence") else last[0].unsqueeze(0)), last[0]


def _walk(x: Any, state: Any, step: Step, back: bool) -> tuple[Any, Any]:
    found = []
    for at in reversed(range(len(x))) if back else range(len(x)):
        state = step(x[at], state)
        found.append(state[0])
    if back:
        found.reverse()
    return torch.stack(found), state


def _reversed(args: Args) -> bool:
    return args.text("direction", "forward") == "reverse"
