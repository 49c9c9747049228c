"""PREFLIGHT: may this device install it, and is there room?"""

from __future__ import annotations

from edgeward.errors import FleetError

from ...protocol.documents import State
from .. import rules
from ..machine import Event
from ..work import Result, Step, Work


class Preflight(Step):
    """Asks every rule before a byte of the bundle is fetched, and makes room."""

    state = State.PREFLIGHT

    def run(self, work: Work) -> Result | None:
        """Go on, or straight to COMMIT where the bundle is the one that runs already."""
        memory, update, bundle = work.memory, work.update, work.variant.bundle
        rules.check_quarantine(memory, bundle)
        rules.check_degraded(work.variant, update)
        rules.check_floor(memory, update, work.config.device, work.trust, work.now)
        if memory.desired is None:
            raise FleetError("Nothing is desired any more")
        rules.check_window(memory.desired, work.now)
        if memory.good and memory.good.bundle == bundle and work.store.active() == bundle:
            return Result(Event.SAME)
        self._make_room(work, bundle)
        return Result(Event.DONE)

    def _make_room(self, work: Work, bundle: str) -> None:
        store, memory = work.store, work.memory
        manifest = store.manifest(bundle)
        if manifest is None:
            manifest = store.keep_manifest(bundle, work.controller.manifest(bundle))
        missing = 0 if store.holds(bundle, "sizes") else store.missing_bytes(manifest)
        reserve = work.config.reserve_bytes
        if store.free_bytes() < int(missing * rules.SPACE_FACTOR) + reserve:
            store.collect([memory.good.bundle] if memory.good else [], bundle)
        rules.check_space(missing, store.free_bytes(), reserve)
