"""Encoders with a decoder as two packages: one reads, the other writes behind a cache of slots.

`encoder.mlpackage` gives what the decoder's layers look back at, by the names that the decoder
takes it by. From iOS 18 on the decoder keeps its cache as states and has a function for one token
and one for several; before, it takes its cache and gives it back, a token at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgeward.compiler.mobile.decoder import CachedFront
from edgeward.compiler.mobile.speech import WriterFronts, open_writer_fronts
from edgeward.compiler.mobile.speech_proof import prove_writer
from edgeward.compiler.reference_model import load_another
from edgeward.compiler.stage_context import StageContext
from edgeward.compiler.tasks import task_spec

from .coreml_functions import write_functions
from .coreml_options import STATES_FROM_IOS, WIDEST
from .coreml_program import converted, describe, save

ENCODER = "encoder"
# Behind what is read there are but a few tokens that say what is to be written.
_STEPS: Mapping[str, int] = {"main": 1, "prefill": 32}
_ALONE = "main"


def write_writer(context: StageContext, params: Mapping[str, Any]) -> CachedFront:
    """Write both packages; the decoder's front of one token.

    What is traced is held against the original first. Raises UnsupportedError for what has no such
    form.
    """
    folder, spec = context.inputs["source"], task_spec(params["task"])
    length, stateful = int(params["cache"]), params["ios"] >= STATES_FROM_IOS
    steps = _STEPS if stateful else {_ALONE: _STEPS[_ALONE]}
    fronts = open_writer_fronts(
        spec.name,
        folder,
        load_another(folder, spec.auto_class),
        {},
        tokens=[min(tokens, length) for tokens in steps.values()],
        context=length,
        stateful=stateful,
        head_split=WIDEST,
    )
    context.progress(0.1, "held against the original")
    prove_writer(spec.name, fronts, folder)
    context.progress(0.2, "converting the encoder")
    _write_encoder(context, params, fronts)
    named = {name: _named(fronts.decoders[min(tokens, length)]) for name, tokens in steps.items()}
    write_functions(context, params, named)
    return named[_ALONE]


def _write_encoder(context: StageContext, params: Mapping[str, Any], fronts: WriterFronts) -> None:
    encoder = fronts.encoder
    made = converted(
        encoder.module,
        encoder.inputs,
        tuple(map(feature_name, encoder.outputs)),
        ios=params["ios"],
        wide=params["wide"],
    )
    describe(made, params["says"], params["task"])
    save(made, context.out / f"{ENCODER}.mlpackage")


def _named(front: CachedFront) -> CachedFront:
    return replace(
        front,
        inputs={feature_name(name): one for name, one in front.inputs.items()},
        held=tuple(map(feature_name, front.held)),
    )


def feature_name(name: str) -> str:
    """Return a name as Core ML's features can have one."""
    return name.replace(".", "_")
