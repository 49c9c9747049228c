"""Recurrent layers by coremltools' builder and by torch, over the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from coremltools.converters.mil import Builder as mb  # noqa: N813
from torch import nn

_WIDTH = 3


def _weights(seed: int, gates: int) -> list[Any]:
    random = np.random.default_rng(seed)
    shapes = [(gates * _WIDTH, 4), (gates * _WIDTH, _WIDTH), (gates * _WIDTH,)]
    return [random.normal(size=one).astype(np.float16).astype(np.float32) for one in shapes]


def _ordered(array: Any, order: tuple[int, ...]) -> Any:
    """Return blocks of gates in another order."""
    blocks = np.split(array, len(order))
    return np.concatenate([blocks[one] for one in order])


def _set(layer: nn.Module, weights: list[Any], suffix: str) -> None:
    into, over, bias = (torch.from_numpy(one) for one in weights)
    with torch.no_grad():
        for name, value in zip(
            ("weight_ih", "weight_hh", "bias_ih"), (into, over, bias), strict=True
        ):
            getattr(layer, f"{name}_l0{suffix}").copy_(value)
        getattr(layer, f"bias_hh_l0{suffix}").zero_()


# torch has the gates of an LSTM as i, f, g, o and MIL as i, f, o, g; of a GRU r, z, n and r, n, z.
_LSTM, _GRU = (0, 1, 3, 2), (0, 2, 1)


def lstm(x: Any, both: bool = False) -> Any:
    """Build an LSTM; outputs are all states, the last, and the last of the cells."""
    into, over, bias = (_ordered(one, _LSTM) for one in _weights(1, 4))
    zeros = np.zeros((2, _WIDTH * (2 if both else 1)), np.float32)
    more = {}
    if both:
        back = [_ordered(one, _LSTM) for one in _weights(2, 4)]
        more = dict(
            zip(("weight_ih_back", "weight_hh_back", "bias_back"), back, strict=True),
            direction="bidirectional",
        )
    return mb.lstm(
        x=x,
        initial_h=zeros,
        initial_c=zeros,
        weight_ih=into,
        weight_hh=over,
        bias=bias,
        output_sequence=True,
        **more,
    )


def torch_lstm(x: Any, both: bool = False) -> list[Any]:
    """Return the same by torch."""
    layer = nn.LSTM(4, _WIDTH, bidirectional=both)
    _set(layer, _weights(1, 4), "")
    if both:
        _set(layer, _weights(2, 4), "_reverse")
    with torch.no_grad():
        states, (hidden, cell) = layer(x)
    return [states, torch.cat(list(hidden), -1), torch.cat(list(cell), -1)]


def gru(x: Any) -> Any:
    """Build a GRU that resets after its product, as torch does."""
    into, over, bias = (_ordered(one, _GRU) for one in _weights(3, 3))
    zeros = np.zeros((2, _WIDTH), np.float32)
    return mb.gru(
        x=x,
        initial_h=zeros,
        weight_ih=into,
        weight_hh=over,
        input_bias=bias,
        bias=np.zeros_like(bias),
        reset_after=True,
        output_sequence=True,
    )


def torch_gru(x: Any) -> list[Any]:
    """Return the same by torch."""
    layer = nn.GRU(4, _WIDTH)
    _set(layer, _weights(3, 3), "")
    with torch.no_grad():
        states, hidden = layer(x)
    return [states, hidden[0]]


def rnn(x: Any) -> Any:
    """Build an RNN of which only the last state is given."""
    into, over, bias = _weights(4, 1)
    zeros = np.zeros((2, _WIDTH), np.float32)
    return mb.rnn(x=x, initial_h=zeros, weight_ih=into, weight_hh=over, bias=bias)


def torch_rnn(x: Any) -> list[Any]:
    """Return the same by torch."""
    layer = nn.RNN(4, _WIDTH)
    _set(layer, _weights(4, 1), "")
    with torch.no_grad():
        _, hidden = layer(x)
    return [hidden, hidden[0]]
