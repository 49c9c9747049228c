"""What proves an encoder and a decoder with a cache of slots: the untouched model's logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeward.compiler.reference_model import load_another
from edgeward.compiler.sequence_sources import Given, open_sources
from edgeward.compiler.tasks import task_spec
from edgeward.compiler.texts import proof_texts
from edgeward.runtimes.engines.base import Tensor

from .decoder_proof import FrontProof, Measured, TorchSlots, plans, run_plan
from .speech import SOURCE_MASK, WriterFronts

_WRITTEN = 40
_MOST_CASES = 8
_MASK = "attention_mask"


def prove_writer(task: str, fronts: WriterFronts, folder: Path) -> FrontProof:
    """Hold the front ends against the original, which is loaded anew.

    What is read are hard texts or sounds; what is written are random tokens, in every way to call
    the decoder. Raises StageError where a logit is further away than float32 explains.
    """
    spec = task_spec(task)
    model = load_another(folder, spec.auto_class)
    cases = open_sources(spec.modality, folder, model).golden(proof_texts().golden)
    slots, measured = TorchSlots(list(fronts.decoders.values())), Measured()
    largest = max(slots.steps)
    for number, read in enumerate(_read(fronts, cases)):
        ids = _ids(model, min(_WRITTEN, slots.context), number)
        with torch.inference_mode():
            wanted = model(**read, decoder_input_ids=torch.tensor([ids])).logits[0].float().numpy()
        held = _held(fronts, read)
        for plan in plans(len(ids), slots, largest, thorough=number < 2):
            measured.add(wanted, run_plan(slots, ids, plan, held), plan)
    return measured.proof()


def _read(fronts: WriterFronts, cases: list[Given]) -> Iterator[dict[str, Any]]:
    """Give cases as long as the encoder reads, padded up to that."""
    example = next(iter(fronts.encoder.inputs.values()))
    fitting = [one for one in cases if _length(one.tensors) <= example.shape[-1]]
    for case in fitting[:_MOST_CASES]:
        room = example.shape[-1] - _length(case.tensors)
        yield {
            name: torch.nn.functional.pad(tensor, (0, room))
            for name, tensor in case.tensors.items()
        }


def _length(tensors: Mapping[str, Any]) -> int:
    return int(next(iter(tensors.values())).shape[-1])


def _held(fronts: WriterFronts, read: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return what the encoder's front end gives, as a runtime holds it."""
    encoder = fronts.encoder
    given = [read[name].to(example.dtype) for name, example in encoder.inputs.items()]
    with torch.inference_mode():
        found = [np.asarray(value.numpy()) for value in encoder.module(*given)]
    held = dict(zip(encoder.outputs, found, strict=True))
    mask = {SOURCE_MASK: np.asarray(read[_MASK].numpy(), np.int32)} if _MASK in read else {}
    return held | mask


def _ids(model: Any, count: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    found: list[int] = torch.randint(
        0, int(model.config.vocab_size), (count,), generator=generator
    ).tolist()
    return found
