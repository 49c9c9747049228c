"""Activations."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from ..values import Args

_GELU_SIGMOID = 1.702


def relu(args: Args) -> Any:
    """Return max(x, 0)."""
    return torch.relu(args.tensor("x"))


def relu6(args: Args) -> Any:
    """Return x between 0 and 6."""
    return args.tensor("x").clamp(0, 6)


def clamped_relu(args: Args) -> Any:
    """Return a leaky ReLU that ends at beta."""
    leaky = F.leaky_relu(args.tensor("x"), args.real("alpha"))
    return leaky.clamp(max=args.real("beta"))


def leaky_relu(args: Args) -> Any:
    """Return x, times alpha below 0."""
    return F.leaky_relu(args.tensor("x"), args.real("alpha", 0.01))


def thresholded_relu(args: Args) -> Any:
    """Return x where it is at least alpha, 0 elsewhere."""
    x = args.tensor("x")
    return torch.where(x >= args.real("alpha", 1.0), x, torch.zeros_like(x))


def prelu(args: Args) -> Any:
    """Return x, times its channel's alpha below 0."""
    x = args.tensor("x")
    return torch.where(x >= 0, x, x * _by_channel(args.tensor("alpha"), x))


def elu(args: Args) -> Any:
    """Return x, alpha * (exp(x) - 1) below 0."""
    return F.elu(args.tensor("x"), args.real("alpha", 1.0))


def gelu(args: Args) -> Any:
    """Return GELU: exact, by tanh, or by a sigmoid."""
    x, mode = args.tensor("x"), args.text("mode", "EXACT")
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(_GELU_SIGMOID * x)
    return F.gelu(x, approximate="tanh" if mode == "TANH_APPROXIMATION" else "none")


def silu(args: Args) -> Any:
    """Return x * sigmoid(x)."""
    return F.silu(args.tensor("x"))


def sigmoid(args: Args) -> Any:
    """Return 1 / (1 + exp(-x))."""
    return torch.sigmoid(args.tensor("x"))


def sigmoid_hard(args: Args) -> Any:
    """Return alpha * x + beta between 0 and 1."""
    return (args.real("alpha", 0.2) * args.tensor("x") + args.real("beta", 0.5)).clamp(0, 1)


def softplus(args: Args) -> Any:
    """Return log(1 + exp(x))."""
    return F.softplus(args.tensor("x"))


def softplus_parametric(args: Args) -> Any:
    """Return alpha * log(1 + exp(beta * x)), both by channel."""
    x = args.tensor("x")
    alpha, beta = _by_channel(args.tensor("alpha"), x), _by_channel(args.tensor("beta"), x)
    return alpha * F.softplus(beta * x)


def softsign(args: Args) -> Any:
    """Return x / (1 + |x|)."""
    return F.softsign(args.tensor("x"))


def scaled_tanh(args: Args) -> Any:
    """Return alpha * tanh(beta * x)."""
    return args.real("alpha", 1.0) * torch.tanh(args.real("beta", 1.0) * args.tensor("x"))


def linear_activation(args: Args) -> Any:
    """Return alpha * x + beta."""
    return args.real("alpha") * args.tensor("x") + args.real("beta")


def softmax(args: Args) -> Any:
    """Return the softmax along an axis."""
    return torch.softmax(args.tensor("x"), args.number("axis", -1))


def _by_channel(values: Any, x: Any) -> Any:
    return values.reshape([1, -1] + [1] * (x.ndim - 2))
