"""What comes to the controller from a release's maker: blobs, manifests, signed releases."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from edgeward.errors import IntegrityError, ManifestError, TrustError, UsageError
from edgeward.runtimes.bundle.canonical import parse
from edgeward.runtimes.bundle.manifest import Manifest, manifest_digest, validate
from edgeward.runtimes.bundle.read import MAX_MANIFEST_BYTES

from ..protocol.release import Release, Variant
from ..protocol.wire import check_size
from ..trust.envelope import envelope_digest, unseal
from ..trust.keys import PublicKey
from .blobs import Blobs
from .problems import ConflictError, TooLargeError
from .records import ReleaseRecord
from .releases import is_degraded
from .store import Store

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Intake:
    """Takes in what is whole and signed; refuses the rest with the reason."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        manifests: Path,
        trusted: Callable[[], list[PublicKey]],
    ) -> None:
        self.store = store
        self.blobs = blobs
        self.manifests = manifests
        self.trusted = trusted

    def manifest_path(self, digest: str) -> Path | None:
        """Return where a bundle's manifest lies, or None where it is not there."""
        if not _DIGEST.fullmatch(digest):
            raise UsageError("Not a bundle's digest", why="64 hexadecimal digits in lower case")
        path = self.manifests / f"{digest}.json"
        return path if path.is_file() else None

    def put_manifest(self, digest: str, data: bytes) -> None:
        """Keep a manifest as its bytes are, once its digest is the bundle's."""
        here = self.manifest_path(digest)
        if len(data) > MAX_MANIFEST_BYTES:
            raise TooLargeError("The manifest is too large", why=f"at most {MAX_MANIFEST_BYTES}")
        document = parse(data, "manifest")
        validate(document)
        if manifest_digest(document) != digest:
            raise IntegrityError(
                "The manifest is not the bundle's", why=f"its digest is {manifest_digest(document)}"
            )
        if here is None:
            _write_durably(self.manifests / f"{digest}.json", data)

    def add_release(self, data: bytes) -> tuple[ReleaseRecord, bool]:
        """Accept a signed release; the second value says whether it is new.

        Raises TrustError without a trusted signature, ConflictError where blobs are missing or
        the model's sequence would not grow, ProtocolError where it is no release.
        """
        envelope = _envelope(data)
        release = unseal(envelope, Release, self._keys())
        record = ReleaseRecord(envelope_digest(envelope), release, bytes(data))
        with self.store.transaction():
            if known := self.store.release(record.digest):
                return known, False
            for variant in release.variants:
                self._hold_against_bundle(variant)
            self._refuse_old_sequence(release)
            self.store.add_release(record)
        return record, True

    def _keys(self) -> list[PublicKey]:
        keys = self.trusted()
        if not keys:
            raise TrustError(
                "This controller trusts no release key yet",
                next="edgeward release trust KEYDIR --home FLEET_HOME",
            )
        return keys

    def _hold_against_bundle(self, variant: Variant) -> None:
        path = self.manifest_path(variant.bundle)
        if path is None:
            raise ConflictError(
                f"The manifest of bundle {variant.bundle[:12]} is not here",
                why="a release comes after all that it names",
            )
        manifest = validate(parse(path.read_bytes(), "manifest"))
        self._refuse_missing_files(variant, manifest)
        says = (variant.target, variant.target_digest, variant.size, variant.degraded)
        target = manifest.target
        if says != (target.name, target.digest, manifest.size, is_degraded(manifest)):
            raise ManifestError(
                f"The release says of bundle {variant.bundle[:12]} what its manifest does not",
                why="target, size or degraded differ",
            )

    def _refuse_missing_files(self, variant: Variant, manifest: Manifest) -> None:
        for file in manifest.files:
            if self.blobs.size(file.sha256) != file.size:
                raise ConflictError(
                    f"{file.path} of bundle {variant.bundle[:12]} is not here",
                    why="a release comes after all that it names",
                )

    def _refuse_old_sequence(self, release: Release) -> None:
        known = [r.release for r in self.store.releases() if r.release.model == release.model]
        newest = max((r.sequence for r in known), default=-1)
        if release.sequence <= newest:
            raise ConflictError(
                f"{release.model} {release.version} has sequence {release.sequence}",
                why=f"the newest release has {newest}, and devices refuse to go back",
                next=f"edgeward release create ... --sequence {newest + 1}",
            )


def _envelope(data: bytes) -> dict[str, object]:
    try:
        envelope = parse(check_size(data), "release")
    except ManifestError as error:
        raise UsageError(error.what, why=error.why) from None
    if not isinstance(envelope.get("signed"), dict):
        raise TrustError("The release is not signed", why="it has no envelope")
    return envelope


def _write_durably(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
