"""All that an agent knows across restarts; every journal record holds the whole of it."""

from __future__ import annotations

from pydantic import Field

from ..protocol.documents import Desired, GateReport, Outcome, Policy, Problem, ReleaseRef, State
from ..protocol.fields import Counter, Document, ModelName, Name, RolloutId, Sha256, UnixTime
from ..protocol.release import Variant

MAX_QUARANTINED = 256


class Good(Document):
    """A bundle that was committed, and the release it came with (None once that is forgotten)."""

    bundle: Sha256
    release: ReleaseRef | None
    sequence: Counter
    target: Name


class Update(Document):
    """The update in flight; `unfinished` counts the restarts that met each state."""

    release: ReleaseRef
    generation: Counter
    rollout: RolloutId | None = None
    policy: Policy = Policy()
    sequence: Counter = 0
    variant: Variant | None = None
    unfinished: dict[Name, Counter] = Field(default_factory=dict, max_length=16)
    condemned: bool = False

    @property
    def bundle(self) -> str | None:
        """The bundle that it installs, once resolved."""
        return self.variant.bundle if self.variant else None


class Memory(Document):
    """Where the agent stands.

    `settled` says that nothing is left to do for `desired`; `time` is the newest time that a
    verified document carried; `clean` that the last stop was an orderly one.
    """

    boot: Counter = 0
    state: State = State.IDLE
    desired: Desired | None = None
    settled: bool = True
    update: Update | None = None
    good: Good | None = None
    previous: Good | None = None
    floors: dict[ModelName, Counter] = Field(default_factory=dict, max_length=1000)
    quarantine: list[Sha256] = Field(default_factory=list, max_length=MAX_QUARANTINED)
    outcome: Outcome | None = None
    problem: Problem | None = None
    gate: GateReport | None = None
    failures: Counter = 0
    time: UnixTime = 0.0
    clean: bool = False

    @property
    def generation(self) -> int:
        """The newest generation that was accepted."""
        return self.desired.generation if self.desired else 0

    @property
    def superseded(self) -> bool:
        """Whether the update in flight is no longer what is desired."""
        if self.update is None or self.desired is None:
            return False
        wanted = self.desired.release
        return wanted is None or wanted.digest != self.update.release.digest

    @property
    def overtaken(self) -> bool:
        """Whether another release waits for the update in flight to end."""
        return self.superseded and self.desired is not None and self.desired.release is not None

    @property
    def target_bundle(self) -> str | None:
        """The bundle that `active` has to name in this state."""
        if self.update and self.state in (State.SOAK, State.COMMIT):
            return self.update.bundle
        return self.good.bundle if self.good else None
