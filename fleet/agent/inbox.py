"""Which desired documents are taken in; rules only."""

from __future__ import annotations

from edgeward.errors import TrustError

from ..protocol.documents import Desired, Outcome
from ..trust.envelope import unseal
from .config import Trust
from .memory import Memory, Update


def read_desired(data: bytes, device: str, trust: Trust) -> Desired:
    """Return the document once the controller's signature and the addressee hold.

    Raises TrustError where they do not, ProtocolError where it is no desired document.
    """
    desired = unseal(data, Desired, trust.controller)
    if desired.device != device:
        raise TrustError(
            f"The desired document is another device's: {desired.device}",
            why=f"this device is {device}",
        )
    return desired


def accept(memory: Memory, desired: Desired) -> Memory:
    """Return the memory with this document in it, or the same one where it is known already.

    A generation that is older than the newest one is a replay: TrustError. The same generation
    may come again with a later expiry, not with another release. A higher generation is an order
    to try, also where the same release was tried before.
    """
    current = memory.desired
    if current is not None:
        _refuse_replay(current, desired)
        if _same_but_for_time(current, desired) and desired.issued_at <= current.issued_at:
            return memory
    again = current is not None and current.generation == desired.generation
    done = memory.good is not None and _is_release(memory, desired)
    changes: dict[str, object] = {
        "desired": desired,
        "time": max(memory.time, desired.issued_at),
        "settled": desired.release is None or (memory.settled and again) or done,
        "update": _retargeted(memory.update, desired),
    }
    if not again:
        changes.update(outcome=Outcome.COMMITTED if done else None, problem=None, failures=0)
    return memory.model_copy(update=changes)


def _refuse_replay(current: Desired, desired: Desired) -> None:
    if desired.generation < current.generation:
        raise TrustError(
            f"The desired document's generation {desired.generation} is an old one",
            why=f"generation {current.generation} was accepted before: this is a replay",
        )
    if desired.generation == current.generation and not _same_order(current, desired):
        raise TrustError(
            f"Generation {desired.generation} came twice with different content",
            why="a controller numbers every change anew",
        )


def _same_order(one: Desired, other: Desired) -> bool:
    return (one.release, one.rollout, one.policy) == (other.release, other.rollout, other.policy)


def _same_but_for_time(one: Desired, other: Desired) -> bool:
    return one.generation == other.generation and _same_order(one, other)


def _is_release(memory: Memory, desired: Desired) -> bool:
    in_trial = memory.update is not None
    return not in_trial and memory.good is not None and memory.good.release == desired.release


def _retargeted(update: Update | None, desired: Desired) -> Update | None:
    """Let an update in flight go on under the new document where the release is the same."""
    if update is None or desired.release != update.release:
        return update
    return update.model_copy(
        update={
            "generation": desired.generation,
            "rollout": desired.rollout,
            "policy": desired.policy,
        }
    )
