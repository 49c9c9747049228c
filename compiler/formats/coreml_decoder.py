"""Text generators as stateful programs: a function for one token, one for the prompt's blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeward.compiler.mobile.decoder import CachedFront, open_decoder_front
from edgeward.compiler.mobile.decoder_proof import prove_decoder
from edgeward.compiler.reference_model import load_another
from edgeward.compiler.stage_context import StageContext
from edgeward.compiler.tasks import task_spec

from .coreml_functions import write_functions
from .coreml_options import WIDEST

# One token after the other, and a prompt's tokens at once: functions of one package.
STEPS: Mapping[str, int] = {"main": 1, "prefill": 64}


def write_decoder(context: StageContext, params: Mapping[str, Any]) -> CachedFront:
    """Write `model.mlpackage`, whose functions share weights and states; the front of one token.

    Raises UnsupportedError for what has no form with a cache of slots.
    """
    folder, spec = context.inputs["source"], task_spec(params["task"])
    model = load_another(folder, spec.auto_class)
    length = min(params["cache"], _longest(model))
    fronts = {
        name: open_decoder_front(
            spec.name,
            folder,
            model,
            tokens=min(tokens, length),
            context=length,
            stateful=True,
            head_split=WIDEST,
        )
        for name, tokens in STEPS.items()
    }
    context.progress(0.2, "held against the original")
    one, *others = fronts.values()
    prove_decoder(others[-1], folder, one, *others[:-1])
    write_functions(context, params, fronts)
    return one


def _longest(model: Any) -> int:
    config = model.config.get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or 1 << 30)
