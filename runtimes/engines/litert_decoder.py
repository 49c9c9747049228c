"""A session of a TFLite decoder: it writes token by token through its slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeward.errors import UnsupportedError, UsageError
from edgeward.runtimes.bundle.manifest import EngineRef

from .base import EngineSession, Tensor
from .litert_copied import CopiedSlots
from .litert_slots import LOGITS, CompiledSlots, Layout

IDS = "input_ids"


class LiteRTDecoder:
    """One TFLite decoder, loaded; `slotted` is what `runtimes/tasks/slots.py` drives.

    As a plain session it takes a whole text (1, tokens) from its beginning.
    """

    def __init__(
        self,
        slotted: CompiledSlots | CopiedSlots,
        ref: EngineRef,
        parts: Mapping[str, EngineSession],
    ) -> None:
        layout: Layout = slotted.layout
        self.slotted, self.ref, self.parts = slotted, ref, parts
        self.inputs: Sequence[str] = (IDS, *layout.held)
        self.outputs: Sequence[str] = (LOGITS,)

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run one text; UsageError where the inputs are not the graph's or are too long."""
        lacking = [name for name in self.inputs if name not in inputs]
        if lacking:
            raise UsageError(f"The model needs {', '.join(lacking)}")
        return dict(zip(self.outputs, self.run_prepared(inputs, self.outputs), strict=True))

    def run_prepared(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Run one text, token by token where no signature takes more of what is left."""
        from edgeward.runtimes.tasks.slots import SlottedState

        if list(outputs) != list(self.outputs):
            raise UnsupportedError("A decoder gives logits", why=f"not {', '.join(outputs)}")
        ids: Any = np.asarray(inputs[IDS])
        held = {name: inputs[name] for name in self.inputs if name != IDS}
        state = SlottedState(self.slotted, held)
        return [np.asarray(state.step(ids))]
