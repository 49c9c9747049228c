"""What each weight is rounded to, by the precision and by what the weight is for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .coreml_moments import Flow, Sample, key_of, outputs_of, sensitivity
from .coreml_options import BLOCK, WIDEST
from .coreml_rounding import Rounded, to_grid, to_table
from .coreml_weights import CONVOLUTION, LOOKUP, TIED, Weight

CALIBRATED = frozenset({"w8a8", "palette4", "int4-weights", "int4-channels", "mixed"})
_GROUP = 16
_MIXED_BITS = 6.0
_SENSED = 8


@dataclass(frozen=True, slots=True)
class Choice:
    """Rounds one weight; what was chosen among 4 and 8 bits, where it was."""

    round: Callable[[Weight], Rounded | None]
    layers: tuple[dict[str, Any], ...] = ()


def choice_for(
    precision: str,
    ios: int,
    weights: Sequence[Weight],
    flows: Mapping[str, Flow],
    model: Any,
    samples: Sequence[Sample],
    *,
    writes: bool,
) -> Choice:
    """Return how a precision rounds each of a program's weights.

    What `writes` text adds up a token's errors: its 8 bits have a scale for each block.
    """
    if precision == "mixed":
        raised, layers = _raised(weights, flows, model, samples)
        return Choice(
            lambda weight: (
                _eight(weight)
                if key_of(weight.matrix) in raised
                else _four_blocks(weight, _moments(flows, weight))
            ),
            layers,
        )
    rules: dict[str, Callable[[Weight], Rounded | None]] = {
        "int8-weights": _eight_blocks if writes else _eight,
        "w8a8": _eight,
        "palette6": lambda weight: _six(weight, ios),
        "palette4": lambda weight: _four_tables(weight, _moments(flows, weight)),
        "int4-weights": lambda weight: _four_blocks(weight, _moments(flows, weight)),
        "int4-channels": lambda weight: _four_rows(weight, _moments(flows, weight)),
    }
    return Choice(rules[precision])


def _eight(weight: Weight) -> Rounded:
    return to_grid(weight.matrix, 8, None)


def _eight_blocks(weight: Weight) -> Rounded:
    """A kernel's places would be no boxes."""
    whole = weight.kind == CONVOLUTION or weight.matrix.shape[1] % BLOCK
    return to_grid(weight.matrix, 8, None if whole else BLOCK)


def _six(weight: Weight, ios: int) -> Rounded:
    """Before iOS 18 one table serves all of a weight."""
    if _is_head(weight) or weight.kind == TIED:
        return _eight(weight)
    return to_table(weight.matrix, 6, _group(weight) if ios >= 18 else None)


def _four_tables(weight: Weight, moments: Any) -> Rounded:
    if weight.kind == LOOKUP:
        return _four_blocks(weight, None)
    if _is_apart(weight):
        return _eight(weight)
    return to_table(weight.matrix, 4, _group(weight), moments)


def _four_blocks(weight: Weight, moments: Any) -> Rounded:
    """Blocks of a kernel's places would not be boxes: those have a scale a row."""
    if weight.kind == TIED or _is_head(weight):
        return _eight(weight)
    if weight.kind == CONVOLUTION or weight.matrix.shape[1] % BLOCK:
        return _eight(weight)
    return to_grid(weight.matrix, 4, BLOCK, moments)


def _four_rows(weight: Weight, moments: Any) -> Rounded:
    if _is_apart(weight):
        return _eight(weight)
    return to_grid(weight.matrix, 4, None, moments)


def _is_apart(weight: Weight) -> bool:
    """Embeddings, the head, and what is both."""
    return weight.kind in (LOOKUP, TIED) or _is_head(weight)


def _is_head(weight: Weight) -> bool:
    """A product with a vocabulary, or with a part of one that was split for the Neural Engine."""
    return weight.kind not in (LOOKUP, CONVOLUTION) and len(weight.matrix) >= WIDEST // 2


def _group(weight: Weight) -> int | None:
    return _GROUP if len(weight.matrix) % _GROUP == 0 else None


def _moments(flows: Mapping[str, Flow], weight: Weight) -> Any:
    flow = flows.get(key_of(weight.matrix))
    return flow.moments if flow is not None else None


def _raised(
    weights: Sequence[Weight],
    flows: Mapping[str, Flow],
    model: Any,
    samples: Sequence[Sample],
) -> tuple[frozenset[str], tuple[dict[str, Any], ...]]:
    """Which weights get 8 bits: those that cost most per byte, to 6 bits a weight in the mean."""
    few = list(samples[:: max(1, len(samples) // _SENSED)])[:_SENSED]
    exact = outputs_of(model, few)
    costs: dict[str, tuple[float, Weight]] = {}
    for weight in weights:
        key = key_of(weight.matrix)
        flow = flows.get(key)
        if flow is None or key in costs:
            continue
        four = _four_blocks(weight, flow.moments)
        if four.bits == 4:
            costs[key] = (sensitivity(flow, four.dense(), model, few, exact), weight)
    room = sum(weight.matrix.size for _, weight in costs.values()) * (_MIXED_BITS - 4) / 4
    raised: set[str] = set()
    ranked = sorted(costs, key=lambda key: -costs[key][0] / costs[key][1].matrix.size)
    for key in ranked:
        size = costs[key][1].matrix.size
        if size <= room:
            raised.add(key)
            room -= size
    layers = tuple(
        {
            "name": weight.name[:200],
            "weights": int(weight.matrix.size),
            "bits": 8 if key in raised else 4,
            "error": float(np.float32(error)),
        }
        for key, (error, weight) in costs.items()
    )
    return frozenset(raised), layers[:256]
