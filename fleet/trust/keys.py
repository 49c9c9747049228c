"""ed25519 keys in files (RFC 8032), named by the sha256 of their public half."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from edgeward.errors import TrustError

PRIVATE_NAME, PUBLIC_NAME = "private.pem", "public.hex"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key as 64 hexadecimal digits."""

    hex: str

    @property
    def id(self) -> str:
        """The sha256 of the raw key."""
        return hashlib.sha256(bytes.fromhex(self.hex)).hexdigest()

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature` over `message` is this key's."""
        try:
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.hex)).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key; it never leaves its folder but to sign."""

    private: Ed25519PrivateKey

    @property
    def public(self) -> PublicKey:
        """The public half."""
        raw = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return PublicKey(raw.hex())

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of the signature."""
        return self.private.sign(message)


def generate(folder: Path) -> SigningKey:
    """Make a key pair in `folder` (private.pem with mode 600, public.hex).

    Raises TrustError where a key is there already: keys are never overwritten.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = SigningKey(Ed25519PrivateKey.generate())
    pem = key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        descriptor = os.open(folder / PRIVATE_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise TrustError(f"{folder} holds a key already", why="keys are not overwritten") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        os.fsync(descriptor)
    (folder / PUBLIC_NAME).write_text(key.public.hex + "\n")
    return key


def load(folder: Path) -> SigningKey:
    """Read the private key of `folder`; TrustError where there is none that can be read."""
    path = folder / PRIVATE_NAME
    try:
        private = load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError:
        raise TrustError(
            f"No signing key in {folder}", next=f"edgeward release keygen {folder}"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise TrustError(f"{path} is not a private key", why=str(error)) from None
    if not isinstance(private, Ed25519PrivateKey):
        raise TrustError(f"{path} is not an ed25519 key")
    return SigningKey(private)


def public_key(text: str) -> PublicKey:
    """Return the key of 64 hexadecimal digits; TrustError where they are not one."""
    text = text.strip()
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
    except ValueError as error:
        raise TrustError(f"Not a public key: {text[:80]!r}", why=str(error)) from None
    return PublicKey(text.lower())


def read_public(folder: Path) -> PublicKey:
    """Read the public key of `folder`; TrustError where there is none."""
    path = folder / PUBLIC_NAME
    try:
        return public_key(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TrustError(
            f"No public key in {folder}", next=f"edgeward release keygen {folder}"
        ) from None
    except (OSError, UnicodeError) as error:
        raise TrustError(f"{path} cannot be read", why=str(error)) from None
