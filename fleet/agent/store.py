"""What lies on the device's disk: blobs and bundles by their digests, and the active link."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeward.errors import BundleError, EdgewardError, IntegrityError, TrustError
from edgeward.runtimes.bundle.canonical import parse
from edgeward.runtimes.bundle.durable import sync_tree
from edgeward.runtimes.bundle.manifest import (
    MANIFEST_NAME,
    FileEntry,
    Manifest,
    manifest_digest,
    validate,
)
from edgeward.runtimes.bundle.read import (
    MAX_MANIFEST_BYTES,
    Bundle,
    Depth,
    check_file,
    open_bundle,
    sha256_of,
)
from edgeward.runtimes.bundle.replace import replace_folder
from edgeward.runtimes.finalize.place import digest_folders

from .clock import Clock
from .download import BlobDownload
from .fetch import Fetcher
from .files import point, remove, write_atomic
from .home import Home


@dataclass(frozen=True, slots=True)
class Store:
    """Content-addressed; nothing reaches its final name before its digest was checked."""

    home: Home

    def manifest_path(self, digest: str) -> Path:
        """Return where a bundle's manifest waits while its files are fetched."""
        return self.home.blobs / f"{digest}.manifest"

    def bundle_path(self, digest: str) -> Path:
        """Return where a bundle lies."""
        return self.home.bundles / digest

    def staging_path(self, digest: str) -> Path:
        """Return where a bundle is put together."""
        return self.home.bundles / f".{digest}.partial"

    def blob_path(self, sha256: str) -> Path:
        """Return where a blob lies."""
        return self.home.blobs / sha256

    def partial_path(self, sha256: str) -> Path:
        """Return where a blob is downloaded to."""
        return self.home.blobs / "partial" / sha256

    def keep_manifest(self, digest: str, data: bytes) -> Manifest:
        """Check that the bytes are the manifest that `digest` names and keep them.

        Raises TrustError where they are another's, ManifestError where they are none.
        """
        document = parse(data, "manifest")
        if manifest_digest(document) != digest:
            raise TrustError(
                f"The controller sent another manifest than {digest[:12]}",
                why=f"its digest is {manifest_digest(document)[:12]}",
            )
        manifest = validate(document)
        write_atomic(self.manifest_path(digest), data)
        return manifest

    def manifest(self, digest: str) -> Manifest | None:
        """Return the manifest kept for a bundle; None where it is missing or damaged."""
        kept = _manifest_at(self.manifest_path(digest), digest)
        return kept or _manifest_at(self.bundle_path(digest) / MANIFEST_NAME, digest)

    def open(self, digest: str, check: Depth = "digests") -> Bundle:
        """Open a bundle of the store; IntegrityError where it is missing or not what it was."""
        path = self.bundle_path(digest)
        if not path.is_dir():
            raise IntegrityError(f"The bundle {digest[:12]} is not on this device", why=str(path))
        try:
            bundle = open_bundle(path, check=check)
        except EdgewardError as error:
            raise IntegrityError(error.what, why=error.why) from None
        if bundle.digest != digest:
            raise IntegrityError(f"{path} holds another bundle", why=bundle.digest)
        return bundle

    def holds(self, digest: str, check: Depth = "digests") -> bool:
        """Say whether a bundle is there and whole."""
        try:
            self.open(digest, check)
        except IntegrityError:
            return False
        return True

    def digests(self) -> list[str]:
        """Return the digests of the bundles that were published here, damaged ones too."""
        return [path.name for path in digest_folders(self.home.bundles)]

    def missing_bytes(self, manifest: Manifest) -> int:
        """Return how many bytes a bundle still needs on this disk."""
        return sum(self._missing(entry) for entry in _distinct(manifest))

    def fetch(
        self, entry: FileEntry, fetcher: Fetcher, clock: Clock, between: Callable[[], None]
    ) -> None:
        """Download a file's blob unless it is there with its right size."""
        final = self.blob_path(entry.sha256)
        if _size(final) == entry.size:
            return
        final.unlink(missing_ok=True)
        partial = self.partial_path(entry.sha256)
        BlobDownload(fetcher, clock, entry.sha256, entry.size, partial, final, between).run()

    def salvage(self, digest: str, manifest: Manifest) -> None:
        """Make blobs of a damaged bundle's files that are still whole, drop blobs that are not."""
        for entry in manifest.files:
            blob, file = self.blob_path(entry.sha256), self.bundle_path(digest) / entry.path
            if blob.exists() and sha256_of(blob) == entry.sha256:
                continue
            blob.unlink(missing_ok=True)
            try:
                check_file(self.bundle_path(digest), entry)
            except BundleError:
                continue
            _link(file, blob)

    def rescue_manifest(self, digest: str) -> None:
        """Keep the manifest of a bundle whose folder is about to go, where it is whole."""
        if self.manifest(digest) is not None and not self.manifest_path(digest).exists():
            data = (self.bundle_path(digest) / MANIFEST_NAME).read_bytes()
            write_atomic(self.manifest_path(digest), data)

    def assemble(self, digest: str, manifest: Manifest) -> Bundle:
        """Put a bundle together in its staging folder out of hard links, and check all of it.

        Raises IntegrityError where a blob is missing or damaged; a damaged one is dropped.
        """
        staging = self.staging_path(digest)
        remove(staging)
        staging.mkdir()
        shutil.copyfile(self.manifest_path(digest), staging / MANIFEST_NAME)
        for entry in manifest.files:
            target = staging / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                _link(self.blob_path(entry.sha256), target)
            except FileNotFoundError:
                raise IntegrityError(f"The blob of {entry.path} is gone", why=digest) from None
        try:
            bundle = open_bundle(staging, check="digests")
        except IntegrityError:
            self._drop_damaged(manifest)
            raise
        if bundle.digest != digest:
            raise IntegrityError("The assembled bundle is another one", why=bundle.digest)
        return bundle

    def publish(self, digest: str) -> None:
        """Give the assembled bundle its final name, durably."""
        staging = self.staging_path(digest)
        sync_tree(staging)
        replace_folder(staging, self.bundle_path(digest))
        self.manifest_path(digest).unlink(missing_ok=True)

    def active(self) -> str | None:
        """Return the digest that the active link names, None where it names none of ours."""
        try:
            target = self.home.active.readlink().as_posix()
        except OSError:
            return None
        folder, _, digest = target.partition("/")
        return digest if folder == "bundles" and self.bundle_path(digest).is_dir() else None

    def activate(self, digest: str) -> None:
        """Let the active link name this bundle: one rename."""
        if self.active() != digest:
            point(self.home.active, f"bundles/{digest}")

    def deactivate(self) -> None:
        """Take the active link away; for a device that has no good bundle."""
        self.home.active.unlink(missing_ok=True)

    def collect(self, keep: Collection[str], needed: str | None) -> None:
        """Remove every bundle, engine and blob but those kept, and what `needed` is made of."""
        kept = {digest for digest in (*keep, self.active(), needed) if digest}
        for path in digest_folders(self.home.engines):
            if path.name not in kept:
                remove(path)
        for path in _listed(self.home.bundles):
            if path.name not in kept and path.name != f".{needed}.partial":
                remove(path)
        blobs = {entry.sha256 for digest in kept for entry in self._entries(digest)}
        blobs |= {f"{digest}.manifest" for digest in kept}
        for path in _listed(self.home.blobs):
            if path.name not in blobs and path.name != "partial":
                remove(path)
        for path in _listed(self.home.blobs / "partial"):
            if path.name.removesuffix(".etag") not in blobs:
                remove(path)

    def free_bytes(self) -> int:
        """Return what the file system has left."""
        return shutil.disk_usage(self.home.root).free

    def _entries(self, digest: str) -> list[FileEntry]:
        manifest = self.manifest(digest)
        return manifest.files if manifest else []

    def _missing(self, entry: FileEntry) -> int:
        if _size(self.blob_path(entry.sha256)) == entry.size:
            return 0
        return max(entry.size - (_size(self.partial_path(entry.sha256)) or 0), 0)

    def _drop_damaged(self, manifest: Manifest) -> None:
        for entry in _distinct(manifest):
            blob = self.blob_path(entry.sha256)
            if blob.exists() and sha256_of(blob) != entry.sha256:
                blob.unlink()


def _manifest_at(path: Path, digest: str) -> Manifest | None:
    try:
        with path.open("rb") as file:
            document = parse(file.read(MAX_MANIFEST_BYTES), "manifest")
        return validate(document) if manifest_digest(document) == digest else None
    except (OSError, BundleError):
        return None


def _distinct(manifest: Manifest) -> Iterator[FileEntry]:
    yield from {entry.sha256: entry for entry in manifest.files}.values()


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except PermissionError:
        shutil.copyfile(source, target)
