"""Issuing desired documents: the generation grows, the registry has it before the broker."""

from __future__ import annotations

import threading
from collections.abc import Callable

from edgeward.runtimes.bundle.canonical import canonical_bytes

from ..protocol.documents import Desired, Policy, ReleaseRef
from ..protocol.wire import check_size
from ..trust.envelope import seal
from ..trust.keys import SigningKey
from .records import DesiredRecord
from .store import Store

LIFETIME_SECONDS = 7 * 86_400.0
_BELIEVABLE_GENERATION = 2**48


class Issuer:
    """Seals what a device should run, and remembers which devices have not been told."""

    def __init__(self, store: Store, key: SigningKey, clock: Callable[[], float]) -> None:
        self.store = store
        self.key = key
        self.clock = clock
        self._unsent: set[str] = set()
        self._lock = threading.Lock()

    def issue(
        self, device: str, release: ReleaseRef | None, rollout: str | None, policy: Policy
    ) -> Desired:
        """Persist the device's next generation and return it."""
        now = self.clock()
        document = Desired(
            device=device,
            generation=self._next_generation(device),
            release=release,
            rollout=rollout,
            policy=policy,
            issued_at=now,
            expires_at=now + LIFETIME_SECONDS,
        )
        self._save(document)
        return document

    def renew(self) -> int:
        """Seal again, same generation, what has lived half its life; return how many."""
        now, renewed = self.clock(), 0
        for record in self.store.all_desired():
            if record.document.expires_at - now > LIFETIME_SECONDS / 2:
                continue
            times = {"issued_at": now, "expires_at": now + LIFETIME_SECONDS}
            self._save(record.document.model_copy(update=times))
            renewed += 1
        return renewed

    def take_unsent(self) -> list[DesiredRecord]:
        """Return the persisted documents that devices wait for, and count them as sent."""
        with self._lock:
            devices, self._unsent = self._unsent, set()
        found = [self.store.desired(device) for device in sorted(devices)]
        return [record for record in found if record is not None]

    def _save(self, document: Desired) -> None:
        envelope = check_size(canonical_bytes(seal(document, self.key)))
        self.store.save_desired(DesiredRecord(document, envelope))
        with self._lock:
            self._unsent.add(document.device)

    def _next_generation(self, device: str) -> int:
        """One above what was issued and what the device has seen, from another home perhaps."""
        issued, known = self.store.desired(device), self.store.device(device)
        ours = issued.document.generation if issued else 0
        theirs = known.reported.generation if known and known.reported else 0
        return max(ours, theirs if theirs < _BELIEVABLE_GENERATION else 0) + 1
