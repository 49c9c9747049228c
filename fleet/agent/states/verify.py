"""VERIFY: is it the bundle that was signed, every byte of it?"""

from __future__ import annotations

from edgeward.errors import IntegrityError, TrustError
from edgeward.runtimes.bundle.manifest import Manifest

from ...protocol.documents import State
from ...protocol.release import Variant
from ..files import remove
from ..machine import Event
from ..work import Result, Step, Work


class Verify(Step):
    """Puts the bundle together in a staging folder and checks every digest there."""

    state = State.VERIFY

    def run(self, work: Work) -> Result | None:
        """Raise IntegrityError for damage, TrustError where the manifest is not the variant's."""
        store, bundle = work.store, work.variant.bundle
        manifest = store.manifest(bundle)
        if manifest is None:
            raise IntegrityError(f"The manifest of {bundle[:12]} is gone")
        check_agreement(manifest, work.variant)
        if store.holds(bundle):
            return Result(Event.DONE)
        if store.bundle_path(bundle).exists():
            store.salvage(bundle, manifest)
            store.rescue_manifest(bundle)
            remove(store.bundle_path(bundle))
        store.assemble(bundle, manifest)
        return Result(Event.DONE)


def check_agreement(manifest: Manifest, variant: Variant) -> None:
    """Raise TrustError where the release promises another bundle than this one."""
    promised = (variant.target, variant.format, variant.precision)
    held = (manifest.target.name, manifest.recipe.format, manifest.recipe.precision)
    if promised != held:
        raise TrustError(
            "The bundle is not what the release says of it",
            why=f"the release: {', '.join(promised)}; the bundle: {', '.join(held)}",
        )
    if manifest.proof.degraded and not variant.degraded:
        raise TrustError(
            "The bundle is not what the release says of it",
            why="its proof fell short, the release does not say so",
        )
