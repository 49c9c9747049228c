"""The memory in the journal: the newest record that can be read is what counts."""

from __future__ import annotations

from pydantic import ValidationError

from edgeward.runtimes.bundle.canonical import canonical_bytes

from .journal import Journal
from .memory import Memory


def recall(journal: Journal) -> Memory | None:
    """Return the newest whole memory, None where there is none; never raises for content."""
    memories = map(_parsed, reversed(journal.read()))
    return next((memory for memory in memories if memory is not None), None)


def note(journal: Journal, memory: Memory) -> None:
    """Append a memory, durably; OSError where the disk refuses."""
    journal.append(canonical_bytes(memory.model_dump(mode="json")))


def _parsed(record: bytes) -> Memory | None:
    try:
        return Memory.model_validate_json(record)
    except (ValidationError, RecursionError):
        return None
