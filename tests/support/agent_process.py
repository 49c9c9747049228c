"""A real agent process on the stand-ins; `--die STATE before|after MARKER` ends it by SIGKILL once.

`before`: as the journal is about to hold that state; `after`: as soon as it does.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from agent_sim import STANDINS

from edgeward.fleet.agent import driver, service
from edgeward.fleet.agent.journal import Journal
from edgeward.fleet.agent.memory import Memory


def die_once(state: str, when: str, marker: Path) -> None:
    note = driver.note

    def noting(journal: Journal, memory: Memory) -> None:
        is_time = memory.state.value == state and not marker.exists()
        if is_time:
            marker.touch()
        if is_time and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        note(journal, memory)
        if is_time:
            os.kill(os.getpid(), signal.SIGKILL)

    driver.note = noting


if __name__ == "__main__":
    root, *rest = sys.argv[1:]
    if rest:
        die_once(rest[1], rest[2], Path(rest[3]))
    service.run(service.open_agent(Path(root), commands=STANDINS))
