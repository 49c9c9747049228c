"""A rollout as people watch it: a few lines that say where it stands."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from edgeward.runtimes.output import cell

from .client import Client
from .problems import NotThereError

POLL_SECONDS = 0.5
_ORDER = (
    "committed",
    "updating",
    "offered",
    "pending",
    "unfit",
    "refused",
    "rolled-back",
    "failed",
    "silent",
    "returned",
)


def follow(
    client: Client,
    rollout: str | None,
    show: Callable[[str], None],
    pause: float = POLL_SECONDS,
) -> bool:
    """Show a rollout, the latest where None, then what changes; return whether it completes.

    Raises NotThereError where there is none.
    """
    rollout = rollout or latest(client)
    before: set[str] = set()
    while True:
        found = client.rollout(rollout)
        lines = render(found).splitlines()
        for line in lines:
            if line not in before:
                show(line)
        before = set(lines)
        if found["phase"] != "running":
            return bool(found["phase"] == "complete")
        time.sleep(pause)


def render(rollout: Mapping[str, Any]) -> str:
    """Return the lines for one moment of a rollout."""
    lines = [_head(rollout), _variants(rollout)]
    lines += [_wave(rollout, wave) for wave in rollout["waves"]]
    if rollout["phase"] != "running":
        reason = f": {cell(rollout['reason'])}" if rollout["reason"] else ""
        lines.append(f"  {rollout['phase']}{reason}")
    return "\n".join(lines)


def latest(client: Client) -> str:
    """Return the id of the rollout that runs, or else of the last one."""
    found = client.rollouts()
    running = [rollout for rollout in found if rollout["phase"] == "running"]
    newest = (running or found)[-1:]
    if not newest:
        raise NotThereError("No rollout yet", next="edgeward fleet rollout create --help")
    return str(newest[0]["id"])


def _head(rollout: Mapping[str, Any]) -> str:
    wave = f"wave {rollout['wave']} of {len(rollout['waves'])}"
    name = f"{rollout['model']} {rollout['version']} -> {cell(rollout['to'])}"
    return f"{rollout['id']}  {name} ({rollout['devices']} devices)    {wave}"


def _variants(rollout: Mapping[str, Any]) -> str:
    counted = Counter(str(m["target"] or "unknown") for m in rollout["members"])
    shown = "   ".join(f"{cell(name)} {n}" for name, n in sorted(counted.items()))
    rate = f"    errors {rollout['errors']} of {rollout['requests']}" if rollout["requests"] else ""
    return f"  targets     {shown}{rate}"


def _wave(rollout: Mapping[str, Any], wave: Mapping[str, Any]) -> str:
    states = wave["states"]
    committed, devices = states.get("committed", 0), wave["devices"]
    rest = [f"{states[name]} {name}" for name in _ORDER[1:] if states.get(name)]
    words = ", ".join([f"{committed}/{devices} committed", *rest])
    passed = wave["wave"] < rollout["wave"] or rollout["phase"] == "complete"
    return f"  wave {wave['wave']:<6} {words}{'    pass' if passed else ''}" + _why(rollout, wave)


def _why(rollout: Mapping[str, Any], wave: Mapping[str, Any]) -> str:
    failed = {"refused", "rolled-back", "failed", "silent", "unfit"}
    members = {m["device"] for m in rollout["members"] if m["wave"] == wave["wave"]}
    last = {e["device"]: e for e in rollout["timeline"] if e["device"] in members}
    shown = [e for e in last.values() if e["kind"] in failed]
    return "".join(f"\n    {cell(e['device'])} {e['kind']}: {cell(e['text'])}" for e in shown[:5])
