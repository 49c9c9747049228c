"""Is the device well? The status file is fresh and the served model answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from edgeward.errors import FleetError

from .clock import Clock
from .config import AgentConfig
from .home import Home
from .server import ask_health

FRESH_SECONDS = 120.0
MAX_STATUS_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Health:
    """Whether it is well, and in words."""

    well: bool
    words: str


def read_status(home: Home) -> dict[str, Any]:
    """Return what the running agent wrote last; FleetError where none runs."""
    try:
        with home.status.open("rb") as file:
            document = json.loads(file.read(MAX_STATUS_BYTES))
    except FileNotFoundError:
        raise FleetError(
            f"No agent runs in {home.root}", next=f"edgeward agent run --home {home.root}"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise FleetError(f"{home.status} cannot be read", why=str(error)[:300]) from None
    if not isinstance(document, dict):
        raise FleetError(f"{home.status} is not a status file")
    return document


def check_health(home: Home, config: AgentConfig, clock: Clock) -> Health:
    """Return whether the agent is at work and what it serves answers."""
    status = read_status(home)
    written, port = status.get("monotonic"), status.get("port")
    if not isinstance(written, (int, float)) or clock.monotonic() - written > FRESH_SECONDS:
        return Health(False, "the agent has not written its status for a while")
    if status.get("last_known_good") is None:
        return Health(True, "nothing is installed yet")
    if not isinstance(port, int):
        return Health(False, "the model is not served")
    digest = ask_health(config.serve_host, port)
    if digest is None:
        return Health(False, f"the model at port {port} does not answer")
    return Health(True, f"serving {digest[:12]} at port {port}")
