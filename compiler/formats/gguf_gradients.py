"""What a small error of each weight would cost a model that writes texts.

Runs inside the `gguf` toolchain, by the torch model forward and backward. Every product of an input
and a weight is watched where torch computes it: a layer, a fused one and one expert of many alike.

For a model that predicts tokens, the mean Kullback-Leibler divergence that a small change of the
weights causes is, to second order, half the change's norm under the Fisher information (Amari
1998). Its diagonal is what squared gradients of tokens drawn from the model itself give. For a
linear layer that square is an input's times an output gradient's, so one figure an input column
is kept: the mean over tokens of x_j^2 times the mean square of the output's gradient. What
rounding a tensor costs is then half the sum over columns of that figure times the column's squared
error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import UnsupportedError

from ..stage_context import StageContext

Floats = NDArray[np.float32]


def column_costs(
    context: StageContext, model: Any, passages: Sequence[Sequence[int]], seed: int = 0
) -> dict[str, Floats]:
    """Return (experts, columns) by the parameter's name, in nats a squared unit of weight.

    They are a mean over all tokens read. Raises UnsupportedError where none of them are finite.
    """
    import torch

    _compute_experts_apart(model)
    watcher = _Watcher(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    hook = model.get_input_embeddings().register_forward_hook(watcher.embedded)
    try:
        for number, ids in enumerate(passages):
            context.progress(number / len(passages), f"passage {number + 1} of {len(passages)}")
            with watcher.mode():
                logits = model(torch.tensor([list(ids)]), use_cache=False).logits[0].float()
            _backward(logits, seed + number)
            watcher.tokens += len(ids)
    finally:
        hook.remove()
        for parameter in trained:
            parameter.requires_grad_(True)
    return watcher.result()


def _backward(logits: Any, seed: int) -> None:
    """Gradients of the log-likelihood of tokens that are drawn from the model itself."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    drawn = torch.multinomial(logits.detach().softmax(-1), 1, generator=generator)[:, 0]
    torch.nn.functional.cross_entropy(logits, drawn, reduction="sum").backward()


def _compute_experts_apart(model: Any) -> None:
    """One product an expert, where a model can compute them all in one."""
    choose = getattr(model, "set_experts_implementation", None)
    if choose is not None:
        try:
            choose("eager")
        except (ValueError, AttributeError, TypeError):
            return


class _Watcher:
    """Adds up figures by parameter; a weight is known by where it lies in memory."""

    def __init__(self, model: Any) -> None:
        self._places = {
            parameter.untyped_storage().data_ptr(): (name, parameter)
            for name, parameter in model.named_parameters()
            if parameter.dim() > 1
        }
        embedding = model.get_input_embeddings().weight
        self._embedding = next(name for name, p in model.named_parameters() if p is embedding)
        self._rows = int(embedding.shape[0])
        self._costs: dict[str, Any] = {}
        self.tokens = 0

    def mode(self) -> Any:
        """Return the context in which products are seen."""
        import torch
        from torch.overrides import TorchFunctionMode

        linear, addmm = torch.nn.functional.linear, torch.addmm
        watcher = self

        class Mode(TorchFunctionMode):  # type: ignore[misc]
            def __torch_function__(
                self, function: Any, types: Any, args: Any = (), kwargs: Any = None
            ) -> Any:
                del types
                given = kwargs or {}
                output = function(*args, **given)
                if function is linear:
                    watcher.product(args[0], _argument(args, given, 1, "weight"), output)
                elif function is addmm:
                    watcher.product(args[1], args[2].t(), output)
                return output

        return Mode()

    def product(self, given: Any, weight: Any, output: Any) -> None:
        """Watch an input (…, columns) that a weight (rows, columns) was multiplied with."""
        place = self._places.get(weight.untyped_storage().data_ptr())
        if place is None or not output.requires_grad:
            return
        name, parameter = place
        squares = given.detach().flatten(0, -2).square()
        expert, experts = _expert(weight, parameter)
        output.register_hook(lambda gradient: self._cost(name, expert, experts, squares, gradient))

    def embedded(self, module: Any, given: Any, output: Any) -> Any:
        """A row of the embedding is read by one token in so many: its figure is over all rows."""
        del module, given
        output.requires_grad_(True)
        output.register_hook(self._embedding_cost)
        return output

    def result(self) -> dict[str, Floats]:
        """Return the figures; UnsupportedError where there are none or they are not finite."""
        found = {
            name: np.ascontiguousarray((total / max(self.tokens, 1)).numpy(), np.float32)
            for name, total in self._costs.items()
        }
        if not found or not all(np.isfinite(each).all() for each in found.values()):
            raise UnsupportedError(
                "What rounding would cost this model cannot be told",
                why="no finite gradients come back from its weights",
                next="edgeward compile … --precision q4_k_m",
            )
        return found

    def _cost(self, name: str, expert: int, experts: int, squares: Any, gradient: Any) -> None:
        weights = gradient.detach().flatten(0, -2).square().mean(1)
        if name not in self._costs:
            self._costs[name] = squares.new_zeros(experts, squares.shape[1])
        self._costs[name][expert] += weights @ squares

    def _embedding_cost(self, gradient: Any) -> None:
        total = gradient.detach().flatten(0, -2).square().sum(0, keepdim=True) / self._rows
        held = self._costs.get(self._embedding)
        self._costs[self._embedding] = total if held is None else held + total


def _expert(weight: Any, parameter: Any) -> tuple[int, int]:
    """Which slice of a parameter (experts, …) a weight is."""
    if parameter.dim() < 3:
        return 0, 1
    offset = weight.storage_offset() - parameter.storage_offset()
    return int(offset // parameter.stride(0)), int(parameter.shape[0])


def _argument(args: Sequence[Any], kwargs: Mapping[str, Any], place: int, name: str) -> Any:
    return args[place] if len(args) > place else kwargs[name]
