"""Which classes llama.cpp's converter knows, by what they are compiled for.

`data/gguf_classes.json` is a copy of `conversion.TEXT_MODEL_MAP` of the version that the toolchain
`gguf` holds: a test keeps them equal. Classes go by the names that configurations give:
`generators`; `encoders`; `backbones`, decoders whose last hidden states are wanted;
`embedding_generators`, of which embedding models are made too, as sentence-transformers' files
tell; `not_taken` are drafts for other models, encoders with a decoder, speech, and what denoises a
whole text at once: the proofs of text know none of them.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

from edgeward.compiler.architectures import Coverage
from edgeward.compiler.tasks import FEATURE_EXTRACTION


@cache
def classes() -> dict[str, frozenset[str]]:
    """Return the classes by what they are."""
    path = files("edgeward.compiler") / "data" / "gguf_classes.json"
    listed = json.loads(path.read_text(encoding="utf-8"))
    return {name: frozenset(group) for name, group in listed.items()}


@cache
def taken() -> Coverage:
    """Return which models are taken."""
    of = classes()
    embed = of["encoders"] | of["backbones"] | of["embedding_generators"]
    return Coverage(classes={"text-generation": of["generators"], FEATURE_EXTRACTION: embed})
