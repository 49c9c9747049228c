"""DOWNLOAD: every blob that is not here yet."""

from __future__ import annotations

from ...protocol.documents import State
from ..machine import Event
from ..work import Result, Step, Work


class Download(Step):
    """Fetches blob after blob; what is there already is not fetched again."""

    state = State.DOWNLOAD

    def run(self, work: Work) -> Result | None:
        """Fetch all of the bundle's files."""
        store, bundle = work.store, work.variant.bundle
        if store.holds(bundle, "sizes"):
            return Result(Event.DONE)
        manifest = store.manifest(bundle)
        if manifest is None:
            manifest = store.keep_manifest(bundle, work.controller.manifest(bundle))
        for entry in manifest.files:
            store.fetch(entry, work.controller.fetcher, work.clock, work.between)
        return Result(Event.DONE)
