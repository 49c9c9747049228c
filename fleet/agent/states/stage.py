"""STAGE: the verified bundle gets its final name."""

from __future__ import annotations

from edgeward.errors import IntegrityError
from edgeward.runtimes.finalize.wants import is_built_on_device

from ...protocol.documents import State
from ..machine import Event
from ..work import Result, Step, Work


class Stage(Step):
    """Syncs the staging folder and renames it."""

    state = State.STAGE

    def run(self, work: Work) -> Result | None:
        """Publish the bundle unless it has its name; UNBUILT where its engine is built here."""
        bundle = work.variant.bundle
        if work.store.staging_path(bundle).exists():
            work.store.publish(bundle)
        manifest = work.store.manifest(bundle)
        if manifest is None:
            raise IntegrityError(f"The manifest of {bundle[:12]} is gone")
        return Result(Event.UNBUILT if is_built_on_device(manifest) else Event.DONE)
