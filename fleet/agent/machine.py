"""Which state follows which event; rules only, nothing here acts.

::

    IDLE > RESOLVE > PREFLIGHT > DOWNLOAD > VERIFY > STAGE > GATE > ACTIVATE > SOAK > COMMIT > IDLE
                         |                                |          |         |
                         +-- SAME --> COMMIT              |          +----+----+
                                                          v               v
                                                     QUARANTINE <---- ROLLBACK ----> IDLE

STAGE leads to GATE by way of FINALIZE where the device is to build the bundle's engine. Before
those two every failure leads to IDLE; one of them that refuses leads to QUARANTINE. Once the new
bundle may be active, the only ways out are COMMIT and ROLLBACK.
"""

from __future__ import annotations

from enum import Enum

from edgeward.errors import EdgewardError, IntegrityError, TransferError

from ..protocol.documents import State
from .refusals import NotYetError


class Event(str, Enum):
    """What a state's work came to."""

    WANTED = "wanted"
    DONE = "done"
    UNBUILT = "unbuilt"
    SAME = "same"
    REFUSED = "refused"
    FAILED = "failed"
    UNFIT = "unfit"
    ABANDONED = "abandoned"


TRIAL = frozenset({State.ACTIVATE, State.SOAK})
PREPARING = frozenset(
    {
        *(State.RESOLVE, State.PREFLIGHT, State.DOWNLOAD, State.VERIFY),
        *(State.STAGE, State.FINALIZE, State.GATE),
    }
)
PROVING = frozenset({State.FINALIZE, State.GATE})
CANCELLABLE = PREPARING | TRIAL
UNFINISHED_LIMIT = {State.FINALIZE: 3, State.GATE: 3, State.ACTIVATE: 2, State.SOAK: 2}

_NEXT = {
    State.IDLE: {Event.WANTED: State.RESOLVE},
    State.RESOLVE: {Event.DONE: State.PREFLIGHT},
    State.PREFLIGHT: {Event.DONE: State.DOWNLOAD, Event.SAME: State.COMMIT},
    State.DOWNLOAD: {Event.DONE: State.VERIFY},
    State.VERIFY: {Event.DONE: State.STAGE},
    State.STAGE: {Event.DONE: State.GATE, Event.UNBUILT: State.FINALIZE},
    State.FINALIZE: {Event.DONE: State.GATE, Event.UNFIT: State.QUARANTINE},
    State.GATE: {Event.DONE: State.ACTIVATE, Event.UNFIT: State.QUARANTINE},
    State.ACTIVATE: {
        Event.DONE: State.SOAK,
        Event.UNFIT: State.ROLLBACK,
        Event.ABANDONED: State.ROLLBACK,
    },
    State.SOAK: {
        Event.DONE: State.COMMIT,
        Event.UNFIT: State.ROLLBACK,
        Event.ABANDONED: State.ROLLBACK,
    },
    State.COMMIT: {Event.DONE: State.IDLE},
    State.ROLLBACK: {Event.DONE: State.QUARANTINE, Event.ABANDONED: State.IDLE},
    State.QUARANTINE: {Event.DONE: State.IDLE},
}
_LEAVING = {Event.REFUSED: State.IDLE, Event.FAILED: State.IDLE, Event.ABANDONED: State.IDLE}
TRANSITIONS: dict[State, dict[Event, State]] = {
    state: ({**_LEAVING, **events} if state in PREPARING else events)
    for state, events in _NEXT.items()
}


def after(state: State, event: Event) -> State:
    """Return the state that follows; ValueError where the event cannot happen there."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise ValueError(f"{event.value} cannot happen in {state.value}") from None


def event_for(state: State, error: EdgewardError | OSError) -> Event | None:
    """Return what an error means in a state; None where the state is to be tried again.

    Transfers and disks heal, so they are worth a retry; so does a blob that was damaged here.
    Anything else that happens while preparing is the release's fault and stays so.
    """
    passing = isinstance(error, (OSError, TransferError, IntegrityError, NotYetError))
    if state in PREPARING:
        return Event.FAILED if passing else Event.REFUSED
    if state in TRIAL:
        return Event.ABANDONED if passing else Event.UNFIT
    return None


def resumed(state: State, unfinished: int) -> State:
    """Return where to go on after a restart that met `state` unfinished for the n-th time.

    Work that may itself bring the device down (loading a model, serving it) is tried a bounded
    number of times; a staging folder is assembled again.
    """
    if unfinished >= UNFINISHED_LIMIT.get(state, unfinished + 1):
        return State.QUARANTINE if state in PROVING else State.ROLLBACK
    return State.VERIFY if state is State.STAGE else state
