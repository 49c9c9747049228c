"""STAGE: the verified bundle gets its final name."""

from __future__ import annotations

from ...protocol.documents import State
from ..machine import Event
from ..work import Result, Step, Work


class Stage(Step):
    """Syncs the staging folder and renames it."""

    state = State.STAGE

    def run(self, work: Work) -> Result | None:
        """Publish the bundle unless it has its name already."""
        bundle = work.variant.bundle
        if work.store.staging_path(bundle).exists():
            work.store.publish(bundle)
        return Result(Event.DONE)
