"""Time from a roofline: prompts by the rate of products, tokens by the bandwidth of memory.

Williams, Waterman and Patterson, Roofline (CACM 2009): what takes longer of the two decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeward.targets.profile import Hardware

from .engines import ACHIEVED, EngineCost
from .facts import ModelFacts
from .memory import cache_bytes
from .precision import Weights
from .roles import kind_of, tower_of

# The rates that a unit without one of its own for a type computes in, the first that it has.
_RATES: Mapping[str, tuple[str, ...]] = {
    "fp32": ("fp32",),
    "fp16": ("fp16", "bf16", "fp32"),
    "bf16": ("bf16", "fp16", "fp32"),
    "fp8": ("fp8", "fp16", "bf16", "fp32"),
    "int8": ("int8", "fp16", "bf16", "fp32"),
    "fp4": ("fp4", "fp8", "fp16", "bf16", "fp32"),
}


@dataclass(frozen=True, slots=True)
class Speed:
    """What a unit reaches: bytes and operations a second, seconds a layer and step beside them."""

    bytes_per_s: float
    operations_per_s: float
    layer_s: float


def speed_of(hardware: Hardware, unit: str, engine: EngineCost, multiplies: str) -> Speed | None:
    """Return what a kind of unit reaches, None where its rate is unknown."""
    rate = _rate(hardware, unit, multiplies)
    if rate is None:
        return None
    bandwidth_share, compute_share = ACHIEVED[unit]
    said = hardware.achieved
    return Speed(
        hardware.memory_bandwidth_bytes_per_s * said.get("bandwidth", bandwidth_share),
        rate * said.get("compute", compute_share),
        (engine.layer_s or {}).get(unit, 0.0),
    )


def _rate(hardware: Hardware, unit: str, multiplies: str) -> int | None:
    rates = (hardware.rate(name, (unit,)) for name in _RATES[multiplies])
    return next((rate for rate in rates if rate is not None), None)


def prompt_s(facts: ModelFacts, weights: Weights, speed: Speed, tokens: int, batch: int) -> float:
    """Return seconds until the first token, or until an encoder's answer."""
    operations = batch * _operations(facts, tokens)
    read = weights.read + batch * tokens * facts.hidden * 4
    layers = facts.layers + (facts.encoder_layers if facts.kind == "encoder-decoder" else 0)
    steady = max(operations / speed.operations_per_s, read / speed.bytes_per_s)
    return steady + layers * speed.layer_s


def token_s(
    facts: ModelFacts,
    weights: Weights,
    speed: Speed,
    *,
    context: int,
    sequences: int,
    cache_bits: float,
) -> float:
    """Return seconds a step in which each of `sequences` gets one token, `context` behind it."""
    read = _read_a_step(facts, weights, sequences)
    read += cache_bytes(facts, context, sequences, cache_bits)
    operations = sequences * _token_operations(facts, context)
    steady = max(read / speed.bytes_per_s, operations / speed.operations_per_s)
    return steady + facts.layers * speed.layer_s


def _read_a_step(facts: ModelFacts, weights: Weights, sequences: int) -> float:
    """Bytes of weights: of the experts those that any sequence is routed to, on the average."""
    encoder = 0.0
    if facts.kind == "encoder-decoder":
        encoder = weights.stored * _share_of_encoder(facts)
    if not facts.experts:
        return max(0.0, weights.read - encoder)
    missed: float = (1 - facts.active_experts / facts.experts) ** sequences
    return weights.read - weights.routed * missed


def _share_of_encoder(facts: ModelFacts) -> float:
    inside = sum(
        tensor.count for tensor in facts.tensors if tower_of(tensor.name, facts.kind) == "encoder"
    )
    return inside / max(1, facts.parameters)


def _multiplied(facts: ModelFacts, tower: str) -> int:
    """Parameters of a tower that every token is multiplied with: no tables, no head."""
    total = 0
    for tensor in facts.tensors:
        kind = kind_of(tensor.name)
        if tower_of(tensor.name, facts.kind) != tower or kind in ("head", "embedding"):
            continue
        share = facts.active_experts / facts.experts if kind == "experts" else 1
        total += int(tensor.count * share)
    return total


def _head(facts: ModelFacts) -> int:
    return facts.vocabulary * facts.hidden if facts.writes_text else 0


def _token_operations(facts: ModelFacts, context: int) -> float:
    attention = 4 * sum(layer.numbers(context) // 2 for layer in facts.cache)
    grouped = facts.heads / max(1, facts.kv_heads)
    crossed = 2 * facts.cross_width * facts.encoder_tokens
    own = 2 * (_multiplied(facts, "decoder") + _head(facts))
    return own + attention * grouped + crossed


def _operations(facts: ModelFacts, tokens: int) -> float:
    """Operations of a whole prompt: products, attention over what came before, one head."""
    main = {"encoder": "encoder", "vision": "vision"}.get(facts.kind, "decoder")
    attention = 4.0 * facts.layers * facts.hidden * tokens * tokens
    if facts.kind == "decoder":
        attention /= 2
    total = 2 * _multiplied(facts, main) * tokens + attention + 2 * _head(facts)
    if facts.kind == "encoder-decoder":
        seen = facts.encoder_tokens or tokens
        total += 2 * _multiplied(facts, "encoder") * seen
        total += 4.0 * facts.encoder_layers * facts.encoder_hidden * seen * seen
    return total
