"""Signed envelopes: a document and signatures over its canonical bytes.

The signed bytes begin with the document's kind, so that no signature made for one kind of
document serves for another (after DSSE's pre-authentication encoding).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from edgeward.errors import ManifestError, TrustError
from edgeward.runtimes.bundle.canonical import canonical_bytes, digest, parse

from ..protocol.fields import Document
from ..protocol.wire import check_size, validate
from .keys import PublicKey, SigningKey

D = TypeVar("D", bound=Document)
MAX_SIGNATURES = 16


def seal(document: Document, *keys: SigningKey) -> dict[str, Any]:
    """Return the envelope of `document`, signed by every key."""
    signed = document.model_dump(mode="json")
    message = _message(signed)
    signatures = [{"key": key.public.id, "sig": key.sign(message).hex()} for key in keys]
    return {"signed": signed, "signatures": signatures}


def seal_bytes(document: Document, *keys: SigningKey) -> bytes:
    """Return the sealed envelope as it travels."""
    return canonical_bytes(seal(document, *keys))


def unseal(data: bytes | dict[str, Any], model: type[D], trusted: Iterable[PublicKey]) -> D:
    """Return the document once one trusted key's signature holds.

    Raises TrustError where none does, ProtocolError where what was signed is not a `model`.
    """
    envelope = data if isinstance(data, dict) else _parse(data)
    signed, signatures = envelope.get("signed"), envelope.get("signatures")
    if not isinstance(signed, dict) or not isinstance(signatures, list):
        raise TrustError("The document is not signed", why="it has no envelope")
    message = _message(signed)
    keys = {key.id: key for key in trusted}
    if not any(_holds(item, keys, message) for item in signatures[:MAX_SIGNATURES]):
        raise TrustError(
            f"No trusted key has signed this {str(signed.get('kind'))[:40]}",
            why=f"trusted: {', '.join(sorted(k[:12] for k in keys)) or 'none'}",
        )
    return validate(signed, model)


def envelope_digest(envelope: dict[str, Any]) -> str:
    """Return the digest of what was signed; it names the document, whoever signed it."""
    return digest(envelope["signed"])


def _parse(data: bytes) -> dict[str, Any]:
    try:
        return parse(check_size(data), "envelope")
    except ManifestError as error:
        raise TrustError(error.what, why=error.why) from None


def _holds(item: Any, keys: dict[str, PublicKey], message: bytes) -> bool:
    if not isinstance(item, dict):
        return False
    key, signature = keys.get(str(item.get("key"))), item.get("sig")
    if key is None or not isinstance(signature, str):
        return False
    try:
        return key.verifies(bytes.fromhex(signature), message)
    except ValueError:
        return False


def _message(signed: dict[str, Any]) -> bytes:
    kind = str(signed.get("kind", "")).encode()
    body = canonical_bytes(signed)
    return b"edgeward/v1 %d %s %d %s" % (len(kind), kind, len(body), body)
