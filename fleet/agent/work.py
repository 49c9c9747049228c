"""What a state's work is given, and what it comes to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from edgeward.errors import FleetError

from ..protocol.documents import State
from ..protocol.release import Variant
from .clock import Clock, trusted_time
from .config import AgentConfig, Trust
from .controller import Controller
from .device import Device
from .machine import Event
from .memory import Memory, Update
from .server import Commands, ModelServer
from .stats_pump import StatsPump
from .store import Store


@dataclass(slots=True)
class Work:
    """The agent's parts; `between` keeps the rest of the agent alive and may break the work off."""

    config: AgentConfig
    trust: Trust
    store: Store
    controller: Controller
    device: Device
    server: ModelServer
    stats: StatsPump
    commands: Commands
    clock: Clock
    memory: Memory
    between: Callable[[], None]

    @property
    def now(self) -> float:
        """The trusted time."""
        return trusted_time(self.clock.now(), self.memory.time)

    @property
    def update(self) -> Update:
        """The update in flight."""
        if self.memory.update is None:
            raise FleetError(f"The journal has no update in {self.memory.state.value}")
        return self.memory.update

    @property
    def variant(self) -> Variant:
        """The variant that it installs."""
        if self.update.variant is None:
            raise FleetError(f"The journal has no variant in {self.memory.state.value}")
        return self.update.variant


@dataclass(frozen=True, slots=True)
class Result:
    """What happened, and what the journal is to know along with it."""

    event: Event
    changes: dict[str, object] = field(default_factory=dict)


class Step(ABC):
    """One state; `run` is called until it gives a result, and again after every restart."""

    state: ClassVar[State]

    def enter(self) -> None:  # noqa: B027 - most states keep nothing between visits
        """Forget what an earlier visit left behind."""

    @abstractmethod
    def run(self, work: Work) -> Result | None:
        """Do some of the work; None where it is not over."""
