"""What the tokenizers library takes of a vocabulary.

Measured over vocabularies of 16000 to 100000 words on the kernel's account of a process, once
what it leaves between its blocks is given back: benchmarks/plan/tokenizer_memory.py. What it takes
more while it reads is gone before an engine's weights come (`runtimes/tasks/tokens.py`).
"""

from __future__ import annotations

from .facts import ModelFacts

MERGED = 320
# No encoder's has merges, which are most of another's.
WORD_PIECE = 270
# The library's own pages.
LIBRARY = 2 << 20


def kept_bytes(facts: ModelFacts) -> int:
    """Return what the tokenizer takes once it is read, nothing where a model has no words."""
    word = WORD_PIECE if facts.kind == "encoder" else MERGED
    return LIBRARY + facts.vocabulary * word if facts.vocabulary else 0
