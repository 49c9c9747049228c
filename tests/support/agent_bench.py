"""One simulated device on a bench: start its agent, crash it, look at what it left."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent_sim import (
    STANDINS,
    FakeClock,
    FakeDevice,
    FakeLink,
    FakeServer,
    FakeSpool,
    Simulator,
    make_text_bundle,
    variant,
)

from edgeward.fleet.agent.config import AgentConfig
from edgeward.fleet.agent.driver import Agent, Parts
from edgeward.fleet.agent.home import Home
from edgeward.fleet.agent.server import Commands
from edgeward.runtimes.bundle.read import Bundle, open_bundle

ORDER = [
    *("resolve", "preflight", "download", "verify", "stage"),
    *("gate", "activate", "soak", "commit", "idle"),
]


@dataclass
class Bench:
    """One simulated device: `boot` starts its agent, again after `crash`."""

    folder: Path
    sim: Simulator = field(default_factory=Simulator)
    clock: FakeClock = field(default_factory=FakeClock)
    server: FakeServer = field(default_factory=FakeServer)
    spool: FakeSpool = field(default_factory=FakeSpool)
    device: FakeDevice = field(default_factory=FakeDevice)
    agent: Agent | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    commands: Commands = STANDINS

    @property
    def home(self) -> Home:
        return Home(self.folder / "home")

    @property
    def link(self) -> FakeLink:
        assert self.agent is not None
        assert isinstance(self.agent.link, FakeLink)
        return self.agent.link

    def bundle(self, text: str, target: str = "kiosk-x86") -> Bundle:
        name = hashlib.sha256(f"{text}{target}".encode()).hexdigest()[:12]
        path = self.folder / "made" / name
        found = open_bundle(path) if path.exists() else make_text_bundle(path, text, target)
        return self.sim.add(found)

    def boot(self) -> Agent:
        config = AgentConfig(
            device="kiosk-1",
            controller="http://127.0.0.1:1",
            **{"poll_seconds": 1.0, "reserve_bytes": 0, **self.settings},
        )
        self.agent = Agent(
            self.home,
            Parts(
                config=config,
                trust=self.sim.trust,
                fetcher=self.sim,
                device=self.device,
                server=self.server,
                commands=self.commands,
                clock=self.clock,
                spool=self.spool,
                link=lambda _: FakeLink(self.clock),
            ),
        )
        return self.agent

    def crash(self) -> None:
        """Let the agent vanish as a SIGKILL would: nothing is written any more."""
        assert self.agent is not None
        self.agent._lock.release()
        self.server.stop()
        self.agent = None

    def settle(self, steps: int = 2000) -> Agent:
        """Step until the newest desired document is settled."""
        agent = self.agent or self.boot()
        wanted = self.sim.generation
        assert agent.run_until(
            lambda a: a.memory.generation == wanted and a.memory.settled and idle(a), steps
        ), (agent.memory, agent._trouble, agent._refusal)
        return agent

    def until(self, done: Callable[[], bool], steps: int = 2000) -> bool:
        """Step until `done` says so."""
        assert self.agent is not None
        return self.agent.run_until(lambda _: done(), steps)

    def rest(self, steps: int) -> None:
        """Step a few times."""
        assert self.agent is not None
        for _ in range(steps):
            self.agent.step(self.agent.pause())

    def install(self, text: str, sequence: int, **changes: Any) -> str:
        """Release a bundle, desire it, let the agent settle; return the bundle's digest."""
        bundle = self.bundle(text)
        self.sim.desire(self.sim.release(sequence, variant(bundle)), **changes)
        self.settle()
        return bundle.digest

    def active(self) -> str | None:
        """Return the digest of the active bundle, every byte of it checked."""
        if not self.home.active.is_symlink():
            return None
        return open_bundle(self.home.active.resolve(strict=True)).digest


def idle(agent: Agent) -> bool:
    return agent.memory.state.value == "idle"
