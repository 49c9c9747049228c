"""Making a release out of bundles, and bringing it to a controller."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from edgeward.errors import ProofError, UsageError
from edgeward.runtimes.bundle.canonical import canonical_bytes
from edgeward.runtimes.bundle.manifest import MANIFEST_NAME, Manifest, reason
from edgeward.runtimes.bundle.read import Bundle, open_bundle

from ..protocol.release import Release, Variant
from ..protocol.wire import check_size
from ..trust.envelope import envelope_digest, seal
from ..trust.keys import SigningKey
from .problems import NotThereError

_MEMORY_FIGURES = ("peak_memory_bytes", "memory_bytes", "total_bytes")


@dataclass(frozen=True, slots=True)
class SealedRelease:
    """A signed release and the bundles that it names."""

    release: Release
    envelope: dict[str, Any]
    bundles: tuple[Bundle, ...]

    @property
    def digest(self) -> str:
        """The digest of what was signed, which names the release."""
        return envelope_digest(self.envelope)


class Receiver(Protocol):
    """Where a release goes: a controller, through its client."""

    def has_blob(self, digest: str) -> bool:
        """Whether the file is there already."""

    def put_blob(self, digest: str, path: Path) -> None:
        """Bring one file."""

    def put_manifest(self, digest: str, data: bytes) -> None:
        """Bring a bundle's manifest."""

    def post_release(self, envelope: dict[str, Any]) -> dict[str, Any]:
        """Bring the signed release, after all that it names."""


def create_release(
    model: str,
    version: str,
    bundles: Sequence[Path],
    key: SigningKey,
    *,
    sequence: int,
    allow_degraded: bool = False,
    notes: str = "",
    created_at: float | None = None,
) -> SealedRelease:
    """Check every bundle whole and sign a release of them.

    Raises BundleError for a bundle that is not what it claims, ProofError for one whose proof
    fell short unless `allow_degraded`, UsageError for two bundles of one target or a bad name.
    """
    opened = tuple(open_bundle(path, check="digests") for path in bundles)
    for bundle in opened:
        _refuse_degraded(bundle, allow_degraded)
    _refuse_doubles(opened)
    try:
        release = Release(
            model=model,
            version=version,
            sequence=sequence,
            created_at=time.time() if created_at is None else created_at,
            notes=notes,
            variants=[variant_of(bundle.manifest, bundle.digest) for bundle in opened],
        )
    except ValidationError as error:
        raise UsageError("This is not a release", why=reason(error)) from None
    envelope = seal(release, key)
    check_size(canonical_bytes(envelope))
    return SealedRelease(release, envelope, opened)


def variant_of(manifest: Manifest, digest: str) -> Variant:
    """Return a bundle as a release names it."""
    proved = manifest.proof.engine.name if manifest.proof.engine else manifest.recipe.format
    engine = str(manifest.recipe.options.get("engine", proved))
    return Variant(
        bundle=digest,
        target=manifest.target.name,
        target_digest=manifest.target.digest,
        format=manifest.recipe.format,
        precision=manifest.recipe.precision,
        size=manifest.size,
        needs_memory_bytes=_memory(manifest),
        engine=engine,
        degraded=is_degraded(manifest),
    )


def is_degraded(manifest: Manifest) -> bool:
    """Whether the bundle's proof fell short, admitted or not."""
    return manifest.proof.degraded or bool(manifest.proof.failures)


def publish(
    sealed: SealedRelease, to: Receiver, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Bring what is missing to the controller, the release last; return its answer."""
    for bundle in sealed.bundles:
        for entry in _distinct(bundle):
            path = bundle.path / entry
            digest = next(f.sha256 for f in bundle.manifest.files if f.path == entry)
            if to.has_blob(digest):
                continue
            progress(f"upload {entry} ({path.stat().st_size} bytes)")
            to.put_blob(digest, path)
        to.put_manifest(bundle.digest, (bundle.path / MANIFEST_NAME).read_bytes())
    return to.post_release(sealed.envelope)


def _distinct(bundle: Bundle) -> Iterable[str]:
    seen: dict[str, str] = {}
    for file in bundle.manifest.files:
        seen.setdefault(file.sha256, file.path)
    return seen.values()


def _memory(manifest: Manifest) -> int:
    performance = manifest.performance
    for figures in (performance.measured, performance.predicted):
        for name in _MEMORY_FIGURES:
            if name in figures and figures[name] >= 0:
                return int(figures[name])
    return 0


def _refuse_degraded(bundle: Bundle, allowed: bool) -> None:
    if allowed or not is_degraded(bundle.manifest):
        return
    short = ", ".join(check.metric for check in bundle.manifest.proof.failures[:5])
    raise ProofError(
        f"{bundle.path} has not proved itself",
        why=f"fell short: {short}" if short else "its proof was accepted as degraded",
        next="edgeward release create ... --allow-degraded",
    )


def _refuse_doubles(bundles: Sequence[Bundle]) -> None:
    seen: dict[str, Path] = {}
    for bundle in bundles:
        target = bundle.manifest.target.name
        if target in seen:
            raise UsageError(
                f"Two bundles are for {target}",
                why=f"{seen[target]} and {bundle.path}: a device would not know which to take",
            )
        seen[target] = bundle.path


def next_sequence(releases: Iterable[dict[str, Any]], model: str) -> int:
    """Return one above the newest sequence that a controller has of a model."""
    return max((int(r["sequence"]) for r in releases if r["model"] == model), default=0) + 1


def variant_rows(releases: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each variant of each release."""
    return [
        {**variant, "model": r["model"], "version": r["version"], "sequence": r["sequence"]}
        for r in releases
        for variant in r["variants"]
    ]


def find_release(releases: Iterable[dict[str, Any]], model: str, version: str) -> dict[str, Any]:
    """Return one release of a controller's list; NotThereError where it is not in it."""
    for release in releases:
        if (release["model"], release["version"]) == (model, version):
            return release
    raise NotThereError(f"No release {model} {version}", next="edgeward release list")
