"""A decoder's signatures as LiteRT-LM calls them, which are those of our own engine too.

Names: LiteRT-LM, `runtime/executor/litert_compiled_model_executor_utils.cc`; as litert-torch's own
export of generators has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeward.runtimes.engines.litert_slots import LOGITS, PLACES, TOKENS

from .tflite_worker import write_signatures

_IDS, _POSITION = "input_ids", "position"


@dataclass(frozen=True, slots=True)
class SlotSignature:
    """What is converted: `tokens` (1, count), `input_pos` (count,) int32, the cache, what is held.

    It gives `logits` and the cache by the names that it came in by.
    """

    module: Any
    inputs: Mapping[str, Any]
    outputs: tuple[str, ...]


def slot_signature(front: Any) -> SlotSignature:
    """Return the signature of a `CachedFront` whose cache comes as inputs."""
    import torch

    class Placed(torch.nn.Module):  # type: ignore[misc]  # torch is typed in its room alone
        """Tokens stand one behind the other: the first one's place tells all."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = front.module

        def forward(self, tokens: Any, places: Any, *rest: Any) -> Any:
            return self.inner(tokens, places[:1], *rest)

    given = dict(front.inputs)
    ids = given.pop(_IDS)
    given.pop(_POSITION)
    places = torch.arange(front.tokens, dtype=torch.int32)
    return SlotSignature(
        Placed().eval(), {TOKENS: ids, PLACES: places, **given}, (LOGITS, *front.cache)
    )


def write_slots(fronts: Mapping[str, Any], path: Path) -> None:
    """Convert decoders that share their weights and cache into one file."""
    slotted = {name: slot_signature(front) for name, front in fronts.items()}
    write_signatures(slotted, list(next(iter(slotted.values())).inputs), path)
