"""The agent with its real parts, running until it is told to stop."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType

from edgeward.errors import EdgewardError
from edgeward.runtimes.statistics.spool import Spool

from .clock import SystemClock
from .config import AgentConfig, load_config, load_trust
from .driver import Agent, Parts
from .fetch import HttpFetcher
from .home import Home
from .link import Link, NoLink
from .mqtt_link import MqttLink
from .probed_device import ProbedDevice
from .server import Commands, ServerChild

COMMANDS = Commands(
    selftest=(sys.executable, "-m", "edgeward.runtimes.selftest"),
    serve=(sys.executable, "-m", "edgeward.runtimes.server"),
    finalize=(sys.executable, "-m", "edgeward.runtimes.finalize"),
    job=(sys.executable, "-m", "edgeward.fleet.agent.jobs.child"),
)


def open_agent(
    root: Path, *, poll_seconds: float | None = None, commands: Commands = COMMANDS
) -> Agent:
    """Return the agent of a home; FleetError or TrustError where it cannot run."""
    home = Home(root.absolute())
    config, trust = load_config(home), load_trust(home)
    if poll_seconds is not None:
        config = config.model_copy(update={"poll_seconds": poll_seconds})
    home.prepare()
    clock = SystemClock()
    parts = Parts(
        config=config,
        trust=trust,
        fetcher=HttpFetcher(config.controller),
        device=ProbedDevice(config.target, config.fingerprint),
        server=ServerChild(commands.serve, home, clock, config.serve_host, config.serve_port),
        commands=commands,
        clock=clock,
        spool=_spool(home.spool),
        link=lambda boot: _link(config, boot, clock),
    )
    return Agent(home, parts)


def run(agent: Agent, *, once: bool = False) -> None:
    """Step until SIGTERM or SIGINT, with `once` until there is nothing left to do; then close."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        agent.stopping = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        while not agent.stopping and not (once and agent.at_rest):
            agent.step(agent.pause())
    finally:
        agent.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def _link(config: AgentConfig, boot: int, clock: SystemClock) -> Link:
    if config.mqtt is None:
        return NoLink(clock.sleep)
    return MqttLink(config.mqtt, config.device, boot, clock)


def _spool(path: Path) -> Spool:
    """Open the spool; one that is damaged is moved away, statistics are not worth a device."""
    try:
        spool = Spool(path)
        spool.peek(1)
    except (EdgewardError, ValueError):
        path.replace(path.with_name(path.name + ".damaged"))
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return Spool(path)
    return spool
