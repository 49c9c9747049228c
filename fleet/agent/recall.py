"""The memory in the journal: the newest record that can be read is what counts."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from edgeward.runtimes.bundle.canonical import canonical_bytes

from ..protocol.fields import Document
from .journal import Journal
from .memory import Memory

D = TypeVar("D", bound=Document)


def recall(journal: Journal) -> Memory | None:
    """Return the newest whole memory, None where there is none; never raises for content."""
    return newest(journal, Memory)


def newest(journal: Journal, model: type[D]) -> D | None:
    """Return the newest record that is a whole `model`, None where there is none."""
    documents = (_parsed(record, model) for record in reversed(journal.read()))
    return next((document for document in documents if document is not None), None)


def note(journal: Journal, memory: Memory) -> None:
    """Append a memory, durably; OSError where the disk refuses."""
    journal.append(canonical_bytes(memory.model_dump(mode="json")))


def _parsed(record: bytes, model: type[D]) -> D | None:
    try:
        return model.model_validate_json(record)
    except (ValidationError, RecursionError):
        return None
