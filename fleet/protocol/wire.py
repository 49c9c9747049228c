"""Encoding documents for the wire and reading them back from strangers."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError

from edgeward.errors import ManifestError, ProtocolError
from edgeward.runtimes.bundle.canonical import canonical_bytes, parse
from edgeward.runtimes.bundle.manifest import reason

from .fields import Document

MAX_MESSAGE_BYTES = 64 * 1024
SCHEMA_MAJOR = 1

D = TypeVar("D", bound=Document)


def encode(document: Document) -> bytes:
    """Return the canonical bytes; ProtocolError above what any broker carries (64 KiB)."""
    return check_size(canonical_bytes(document.model_dump(mode="json")))


def decode(data: bytes, model: type[D]) -> D:
    """Parse and check a message from outside; ProtocolError says what is wrong with it."""
    try:
        document = parse(check_size(data), "message")
    except ManifestError as error:
        raise ProtocolError(error.what, why=error.why) from None
    return validate(document, model)


def validate(document: dict[str, Any], model: type[D]) -> D:
    """Check a parsed document: its kind, its major version, its fields."""
    wanted = model.model_fields["kind"].default
    if document.get("kind") != wanted:
        raise ProtocolError(
            f"Expected a {wanted} document", why=f"got {document.get('kind')!r:.80}"
        )
    version = str(document.get("schema_version", ""))
    if version.split(".")[0] != str(SCHEMA_MAJOR):
        raise ProtocolError(
            f"The {wanted} document has schema {version[:20]!r}, this edgeward speaks 1.x",
            next="pip install --upgrade edgeward",
        )
    try:
        return model.model_validate_json(canonical_bytes(document))
    except (ValidationError, RecursionError) as error:
        raise ProtocolError(
            f"The {wanted} document does not follow its schema", why=reason(error)
        ) from None


def check_size(data: bytes) -> bytes:
    """Return the data, or raise ProtocolError above the limit."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise ProtocolError(
            f"A message of {len(data)} bytes is too large", why=f"at most {MAX_MESSAGE_BYTES}"
        )
    return data
