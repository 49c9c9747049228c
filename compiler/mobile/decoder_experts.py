"""Mixtures of experts without choices in the graph: every expert runs, most weigh nothing.

Mobile engines have no products that depend on a choice. What is computed is the same; what it costs
is all experts a token.
"""

from __future__ import annotations

from typing import Any

import torch

_NAME = "edgeward_all"


def run_all_experts(model: Any) -> None:
    """Let the model's mixtures run every expert; a model without any stays as it is."""
    experts = [one for one in model.modules() if hasattr(one, "gate_up_proj") and _listed(one)]
    if not experts:
        return
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    ALL_EXPERTS_FUNCTIONS.register(_NAME, _all_experts)
    for one in experts:
        one.config._experts_implementation = _NAME


def _listed(module: Any) -> bool:
    weight = getattr(module, "gate_up_proj", None)
    return isinstance(weight, torch.nn.Parameter) and weight.ndim == 3


def _all_experts(
    experts: Any,
    hidden_states: torch.Tensor,
    top_k_index: torch.Tensor,
    top_k_weights: torch.Tensor,
) -> torch.Tensor:
    """Return the weighed sum over experts of states (tokens, width)."""
    numbers = torch.arange(experts.num_experts)
    chosen = (top_k_index[..., None] == numbers).to(hidden_states.dtype)
    shares = (chosen * top_k_weights[..., None]).sum(1)
    linear, found = torch.nn.functional.linear, torch.zeros(1)
    for number in range(experts.num_experts):
        gated = experts._apply_gate(linear(hidden_states, experts.gate_up_proj[number]))
        out = linear(gated, experts.down_proj[number])
        found = found + out * shares[:, number : number + 1]
    return found
