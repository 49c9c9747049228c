"""Operators on each element, of one tensor or of two."""

from __future__ import annotations

from typing import Any

import torch

from ..values import Args


def add(args: Args) -> Any:
    """Return x + y."""
    return args.tensor("x") + args.tensor("y")


def sub(args: Args) -> Any:
    """Return x - y."""
    return args.tensor("x") - args.tensor("y")


def mul(args: Args) -> Any:
    """Return x * y."""
    return args.tensor("x") * args.tensor("y")


def real_div(args: Args) -> Any:
    """Return x / y; of whole numbers, cut off towards zero."""
    return torch.true_divide(args.tensor("x"), args.tensor("y"))


def floor_div(args: Args) -> Any:
    """Return the floor of x / y."""
    return torch.floor_divide(args.tensor("x"), args.tensor("y"))


def mod(args: Args) -> Any:
    """Return the remainder, with the sign of y."""
    return torch.remainder(args.tensor("x"), args.tensor("y"))


def power(args: Args) -> Any:
    """Return x to the power of y."""
    return torch.pow(args.tensor("x"), args.tensor("y"))


def maximum(args: Args) -> Any:
    """Return the larger of both."""
    return torch.maximum(args.tensor("x"), args.tensor("y"))


def minimum(args: Args) -> Any:
    """Return the smaller of both."""
    return torch.minimum(args.tensor("x"), args.tensor("y"))


def equal(args: Args) -> Any:
    """Return x == y."""
    return args.tensor("x") == args.tensor("y")


def not_equal(args: Args) -> Any:
    """Return x != y."""
    return args.tensor("x") != args.tensor("y")


def greater(args: Args) -> Any:
    """Return x > y."""
    return args.tensor("x") > args.tensor("y")


def greater_equal(args: Args) -> Any:
    """Return x >= y."""
    return args.tensor("x") >= args.tensor("y")


def less(args: Args) -> Any:
    """Return x < y."""
    return args.tensor("x") < args.tensor("y")


def less_equal(args: Args) -> Any:
    """Return x <= y."""
    return args.tensor("x") <= args.tensor("y")


def logical_and(args: Args) -> Any:
    """Return whether both are true."""
    return torch.logical_and(args.tensor("x"), args.tensor("y"))


def logical_or(args: Args) -> Any:
    """Return whether one is true."""
    return torch.logical_or(args.tensor("x"), args.tensor("y"))


def logical_xor(args: Args) -> Any:
    """Return whether exactly one is true."""
    return torch.logical_xor(args.tensor("x"), args.tensor("y"))


def logical_not(args: Args) -> Any:
    """Return whether it is false."""
    return torch.logical_not(args.tensor("x"))


# One tensor in, one out, as torch names them.
_UNARY = {
    "abs": torch.abs,
    "acos": torch.acos,
    "asin": torch.asin,
    "atan": torch.atan,
    "atanh": torch.atanh,
    "ceil": torch.ceil,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "erf": torch.erf,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "floor": torch.floor,
    "round": torch.round,
    "sign": torch.sign,
    "sin": torch.sin,
    "sinh": torch.sinh,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "tan": torch.tan,
    "tanh": torch.tanh,
}


def unary(args: Args) -> Any:
    """Return the function of each element that the operator's name says."""
    return _UNARY[args.operator](args.tensor("x"))


def identity(args: Args) -> Any:
    """Return it as it is."""
    return args.tensor("x")


def log(args: Args) -> Any:
    """Return log(x + epsilon)."""
    return torch.log(args.tensor("x") + args.real("epsilon", 1e-45))


def rsqrt(args: Args) -> Any:
    """Return 1 / sqrt(x + epsilon)."""
    return torch.rsqrt(args.tensor("x") + args.real("epsilon", 1e-12))


def inverse(args: Args) -> Any:
    """Return 1 / (x + epsilon)."""
    return torch.reciprocal(args.tensor("x") + args.real("epsilon", 1e-4))


def clip(args: Args) -> Any:
    """Return x between alpha and beta."""
    return args.tensor("x").clamp(args.real("alpha"), args.real("beta"))


def threshold(args: Args) -> Any:
    """Return x, at least alpha."""
    return args.tensor("x").clamp(min=args.real("alpha"))


def cast(args: Args) -> Any:
    """Return x; the machine holds it as the output's dtype, whole numbers cut off towards zero."""
    return args.tensor("x")


def select(args: Args) -> Any:
    """Return a where cond holds, b elsewhere."""
    return torch.where(args.tensor("cond").bool(), args.tensor("a"), args.tensor("b"))
