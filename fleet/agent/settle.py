"""Which bundle serves: `active` names a bundle that is whole, whatever happened before."""

from __future__ import annotations

from collections.abc import Callable

from edgeward.errors import EdgewardError

from .clock import Clock
from .controller import Controller
from .files import remove
from .memory import Good, Memory
from .states.rollback import whole_good
from .store import Store


def settle(store: Store, memory: Memory) -> str | None:
    """Point `active` at the bundle that the memory names, else at a good one; return its digest.

    A damaged bundle is put together again where its blobs are still whole. None where no bundle
    that was ever committed is whole.
    """
    wanted = memory.target_bundle
    if wanted is not None and (store.holds(wanted) or _mended(store, wanted)):
        store.activate(wanted)
        return wanted
    good = whole_good(store, memory)
    if good is None:
        return None
    store.activate(good.bundle)
    return good.bundle


def adopt(store: Store) -> Good | None:
    """Return the active bundle as good where the journal is lost; None where it is not whole."""
    digest = store.active()
    if digest is None or not store.holds(digest):
        return None
    target = store.open(digest, "sizes").manifest.target.name
    return Good(bundle=digest, release=None, sequence=0, target=target)


def repair(
    store: Store, controller: Controller, clock: Clock, digest: str, between: Callable[[], None]
) -> None:
    """Make a damaged bundle whole again, fetching only what is damaged; TransferError if not."""
    manifest = store.manifest(digest)
    if manifest is None:
        manifest = store.keep_manifest(digest, controller.manifest(digest))
    store.salvage(digest, manifest)
    store.rescue_manifest(digest)
    for entry in manifest.files:
        store.fetch(entry, controller.fetcher, clock, between)
    store.assemble(digest, manifest)
    remove(store.bundle_path(digest))
    store.publish(digest)


def _mended(store: Store, digest: str) -> bool:
    manifest = store.manifest(digest)
    if manifest is None:
        return False
    try:
        store.salvage(digest, manifest)
        store.rescue_manifest(digest)
        store.assemble(digest, manifest)
        remove(store.bundle_path(digest))
        store.publish(digest)
    except (EdgewardError, OSError):
        return False
    return True
