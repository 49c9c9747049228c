"""Text generators and writers that have no form with a cache of slots, in words; torch-free."""

from __future__ import annotations

from collections.abc import Mapping

from edgeward.compiler.architectures import DECODERS, SPEECH_WRITERS, WRITERS

# By model type; `decoder_kinds.py` adds what a configuration alone may ask for.
REFUSED_DECODERS: Mapping[str, str] = {}
_BLOCKS = "its encoder attends in blocks that it cuts by the text's length"
REFUSED_WRITERS: Mapping[str, str] = {
    "longt5": _BLOCKS,
    "mvp": "its decoder takes the places of its tokens from the length of its cache alone",
    "pegasus_x": _BLOCKS,
}

SLOTTED_DECODERS = DECODERS - set(REFUSED_DECODERS)
SLOTTED_WRITERS = (WRITERS | SPEECH_WRITERS) - set(REFUSED_WRITERS)
