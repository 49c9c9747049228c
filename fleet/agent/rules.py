"""May this device install this release, now? Rules only, each an error with its reason."""

from __future__ import annotations

from edgeward.errors import DoesNotFitError, EdgewardError, TransferError, TrustError

from ..protocol.documents import Desired
from ..protocol.release import Permit, Release, Variant
from ..trust.envelope import unseal
from .config import Trust
from .memory import Memory, Update
from .refusals import NotYetError

SPACE_FACTOR = 1.1


def check_window(desired: Desired, now: float) -> None:
    """Raise NotYetError outside not-before to expiry; `now` is the trusted time."""
    if now >= desired.expires_at:
        raise NotYetError(
            "The desired document has expired: what runs keeps running, nothing is installed",
            why=f"it expired at {desired.expires_at:.0f}, the time is {now:.0f}",
        )
    if now < desired.not_before:
        raise NotYetError(
            "The desired document is not valid yet",
            why=f"it begins at {desired.not_before:.0f}, the time is {now:.0f}",
        )


def check_release(release: Release, update: Update) -> None:
    """Raise TrustError where the document is not the release that was asked for by name."""
    if (release.model, release.version) != (update.release.model, update.release.version):
        raise TrustError(
            f"The release is {release.model} {release.version}",
            why=f"desired was {update.release.model} {update.release.version}",
        )


def check_quarantine(memory: Memory, bundle: str) -> None:
    """Raise TrustError where the bundle failed on this device before."""
    if bundle in memory.quarantine:
        raise TrustError(
            f"The bundle {bundle[:12]} is in quarantine on this device",
            why="it failed here before; a release with another bundle ends that",
        )


def check_degraded(variant: Variant, update: Update) -> None:
    """Raise TrustError where the variant fell short of its proof and the policy forbids that."""
    if variant.degraded and not update.policy.allow_degraded:
        raise TrustError(
            "The variant was accepted although its proof fell short",
            why="the policy does not allow degraded bundles",
        )


def check_floor(memory: Memory, update: Update, device: str, trust: Trust, now: float) -> None:
    """Raise TrustError for a downgrade without a permit that holds."""
    floor = memory.floors.get(update.release.model, 0)
    if update.sequence >= floor:
        return
    refusal = f"Release {update.sequence} of {update.release.model} is below the floor {floor}"
    envelope = memory.desired.permit if memory.desired else None
    if envelope is None:
        raise TrustError(refusal, why="going down needs a permit, signed by a release key")
    try:
        permit = unseal(envelope, Permit, trust.release)
    except EdgewardError as error:
        raise TrustError(refusal, why=f"its permit does not hold: {error.what}") from None
    if problem := _permit_problem(permit, update, device, now):
        raise TrustError(refusal, why=f"its permit does not hold: {problem}")


def _permit_problem(permit: Permit, update: Update, device: str, now: float) -> str | None:
    if permit.model != update.release.model:
        return f"it is for {permit.model}"
    if permit.device not in ("*", device):
        return f"it is for {permit.device}"
    if now >= permit.expires_at:
        return "it has expired"
    if update.sequence < permit.to_sequence:
        return f"it goes down to {permit.to_sequence} only"
    return None


def check_space(missing_bytes: int, free_bytes: int, reserve_bytes: int) -> None:
    """Raise TransferError where the disk has not room now; room may come back."""
    needed = int(missing_bytes * SPACE_FACTOR) + reserve_bytes
    if missing_bytes and free_bytes < needed:
        raise TransferError(
            "The disk has not room for the bundle",
            why=f"{free_bytes} bytes are free, {needed} are needed "
            f"({missing_bytes} to download, a tenth more, {reserve_bytes} in reserve)",
        )


def check_memory(variant: Variant, memory_bytes: int) -> None:
    """Raise DoesNotFitError where the device has less memory than the variant needs."""
    if variant.needs_memory_bytes > memory_bytes:
        raise DoesNotFitError(
            f"The {variant.target} variant does not fit",
            why=f"it needs {variant.needs_memory_bytes} bytes of {memory_bytes}",
        )
