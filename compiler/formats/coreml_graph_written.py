"""A decoder's package against the original's logits, and the calls that a device is held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.compiler.mil_engine import MilSession
from edgeward.compiler.sequence_sources import open_sources
from edgeward.compiler.tasks import TaskSpec
from edgeward.errors import StageError
from edgeward.runtimes.engines.base import Tensor
from edgeward.runtimes.engines.coreml_slots import IDS, LOGITS, POSITION, PackageSlots
from edgeward.runtimes.tasks.sequences import ENCODER, SOURCE_MASK, SequenceGraph
from edgeward.runtimes.tasks.slots import SlottedDecoder, SlottedState

from .coreml_cases import Cases
from .coreml_moments import samples_of

_TOKENS = 40
_MASK = "attention_mask"


@dataclass(frozen=True, slots=True)
class Written:
    """The original, and the texts that it is asked with."""

    spec: TaskSpec
    folder: Path
    model: Any
    texts: Sequence[str]

    @property
    def reads(self) -> bool:
        """Whether an encoder reads before anything is written."""
        return self.spec.name != "text-generation"

    def read(self) -> dict[str, Tensor]:
        """Return what the encoder is given, nothing for a decoder alone."""
        if not self.reads:
            return {}
        sources = open_sources(self.spec.modality, self.folder, self.model)
        given = sources.evaluation(self.texts)[0].tensors
        return {name: np.asarray(tensor.numpy()) for name, tensor in given.items()}

    def ids(self, most: int) -> list[int]:
        """Return a text's tokens; behind an encoder random ones, which no text would be."""
        if not self.reads:
            found = samples_of(self.spec, self.folder, self.model, self.texts)[0]["input_ids"]
            return [int(one) for one in found[0, : min(_TOKENS, most)]]
        words = int(self.model.config.get_text_config().vocab_size)
        random = np.random.default_rng(0).integers(0, words, min(_TOKENS, most))
        return [int(one) for one in random]

    def logits(self, read: Mapping[str, Tensor], ids: Sequence[int]) -> Any:
        """Return the original's logits (tokens, vocabulary)."""
        import torch

        tensors = {name: torch.from_numpy(value) for name, value in read.items()}
        named = "decoder_input_ids" if self.reads else "input_ids"
        with torch.inference_mode():
            return self.model(**tensors, **{named: torch.tensor([list(ids)])}).logits[0]


def exact_kl(written: Written, session: MilSession) -> float:
    """Return the mean divergence in nats from the original, computed without rounding."""
    import torch

    slots, read = _slots(session), written.read()
    ids = written.ids(slots.context)
    wanted = written.logits(read, ids).double().log_softmax(-1)
    state = _begun(session, slots, read)
    got = torch.from_numpy(state.logits(ids)).double().log_softmax(-1)
    return max(float((wanted.exp() * (wanted - got)).sum(-1).mean()), 0.0)


def _begun(session: MilSession, slots: PackageSlots, read: Mapping[str, Tensor]) -> SlottedState:
    if not read:
        return SlottedDecoder(slots).start()
    begun = SequenceGraph(session).read(read)
    if not isinstance(begun, SlottedState):
        raise StageError("The package does not decode in slots")
    return begun


def written_cases(written: Written, session: MilSession) -> Cases:
    """Return one case: what is read, a block of tokens, then two after it."""
    slots, program, read = _slots(session), session.programs[0], written.read()
    ids, cases, call = written.ids(slots.context), Cases(), 0
    held: dict[str, Tensor] = {}
    if read:
        given = _read_by(session, read)
        held = session.parts[ENCODER].run(given)
        # Layers between them are held to by what is written.
        ends = {name: held[name] for name in (*list(held)[:2], *list(held)[-2:])}
        cases.hold((0, call, f"{ENCODER}:"), given, ends)
        call += 1
    mask = {SOURCE_MASK: read[_MASK].astype(np.int32)} if _MASK in read else {}
    cache, position = slots.fresh(held | mask), 0
    first = {**cache.arrays, **mask}
    named = {int(str(program.inputs_of(n)[IDS].shape[1])): n for n in program.functions}
    for size in (max(slots.steps), 1, 1):
        tokens = np.array([[ids[(position + n) % len(ids)] for n in range(size)]], np.int32)
        given = {IDS: tokens, POSITION: np.array([position], np.int32), **first}
        found = {LOGITS: slots.call(size, tokens, position, cache)}
        cases.hold((0, call, named[size] if len(named) > 1 else ""), given, found)
        call, position, first = call + 1, position + size, {}
    return cases


def _read_by(session: MilSession, read: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what the encoder's package takes, as it takes it."""
    taken = {name: read[name] for name in session.parts[ENCODER].inputs}
    return {
        name: value.astype(np.float32 if value.dtype.kind == "f" else np.int32)
        for name, value in taken.items()
    }


def _slots(session: MilSession) -> PackageSlots:
    if session.slotted is None:
        raise StageError("The package has no cache", why="one that writes token by token has")
    return session.slotted
