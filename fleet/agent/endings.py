"""What the journal is to know when a state's work ends otherwise than well; rules only."""

from __future__ import annotations

from edgeward.errors import EdgewardError

from ..protocol.documents import Outcome, Problem, State
from .machine import PREPARING, PROVING, UNFINISHED_LIMIT, Event, resumed
from .memory import Memory

MAX_TEXT = 2000


def problem_of(error: EdgewardError | OSError) -> Problem:
    """Return an error as a device reports it."""
    if isinstance(error, EdgewardError):
        what, why = error.what, error.why
    else:
        what, why = "The device's disk or system refused", str(error)
    return Problem(error=type(error).__name__[:200], what=what[:MAX_TEXT], why=why[:MAX_TEXT])


def ending(memory: Memory, event: Event, problem: Problem | None) -> dict[str, object]:
    """Return the changes that an event brings wherever it happens."""
    if event is Event.REFUSED:
        changes = {"settled": True, "outcome": Outcome.REFUSED, "problem": problem, "update": None}
    elif event is Event.FAILED:
        changes = {**_failed(memory, problem), "update": None}
    elif event is Event.ABANDONED:
        changes = {} if problem is None else _failed(memory, problem)
        if memory.state in PREPARING:
            changes["update"] = None
    elif event is Event.UNFIT:
        changes = {"problem": problem, **_condemned(memory)}
    else:
        return {}
    if memory.superseded:
        changes = {**changes, "settled": not memory.overtaken}
        if memory.state in PREPARING and event is not Event.UNFIT:
            changes = {**changes, "outcome": None, "problem": None, "failures": 0}
    return changes


def rebooted(memory: Memory) -> Memory:
    """Return the memory at the start of a new boot: where to go on, and what to give up on."""
    fresh = memory.model_copy(update={"boot": memory.boot + 1, "clean": False})
    state, update = memory.state, memory.update
    if state is State.IDLE:
        return fresh
    if update is None or (update.variant is None and state is not State.RESOLVE):
        return fresh.model_copy(update={"state": State.IDLE, "update": None, "settled": False})
    count = update.unfinished.get(state.value, 0) + (0 if memory.clean else 1)
    counted = update.model_copy(update={"unfinished": {**update.unfinished, state.value: count}})
    fresh = fresh.model_copy(update={"update": counted})
    following = resumed(state, count)
    changes: dict[str, object] = {"state": following}
    if count >= UNFINISHED_LIMIT.get(state, count + 1):
        problem = Problem(
            error="UnfinishedError",
            what=f"The device went down {count} times in {state.value}",
            why="the bundle may be what takes it down: it is given up",
        )
        changes |= {"problem": problem, **_condemned(fresh)}
    return fresh.model_copy(update=changes)


def _failed(memory: Memory, problem: Problem | None) -> dict[str, object]:
    return {"outcome": Outcome.FAILED, "problem": problem, "failures": memory.failures + 1}


def _condemned(memory: Memory) -> dict[str, object]:
    update = memory.update.model_copy(update={"condemned": True}) if memory.update else None
    changes: dict[str, object] = {"update": update}
    if memory.state in PROVING:
        changes["outcome"] = Outcome.REFUSED
    return changes
