"""How the agent tells others where it stands: the reported document and the status file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edgeward._version import __version__

from ..protocol.documents import Problem, Reported
from .memory import Memory

REPORTED_QUARANTINE = 32


def reported(
    memory: Memory,
    *,
    device: str,
    sequence: int,
    at: float,
    active: str | None,
    target: str | None,
    fingerprint: str | None,
    free_bytes: int,
    trouble: Problem | None,
) -> Reported:
    """Return the document; `release` and `rollout` are those of its `generation`."""
    desired = memory.desired
    return Reported(
        device=device,
        boot=memory.boot,
        sequence=sequence,
        at=at,
        agent=f"edgeward {__version__}",
        generation=memory.generation,
        state=memory.state,
        release=desired.release if desired else None,
        rollout=desired.rollout if desired else None,
        outcome=memory.outcome,
        active=active,
        last_known_good=memory.good.bundle if memory.good else None,
        quarantined=memory.quarantine[-REPORTED_QUARANTINE:],
        target=target,
        fingerprint=fingerprint,
        free_bytes=free_bytes,
        gate=memory.gate,
        problem=trouble or memory.problem,
    )


def status(report: Reported, **more: Any) -> bytes:
    """Return the status file: the reported document and what only this machine cares for."""
    document = {**report.model_dump(mode="json"), **more}
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def status_rows(document: Mapping[str, Any]) -> list[dict[str, object]]:
    """Return a status file's lines for people."""
    release, problem = document.get("release"), document.get("problem")
    shown = {
        "device": document.get("device"),
        "state": document.get("state"),
        "target": document.get("target"),
        "release": _joined(release, "model", "version"),
        "generation": document.get("generation"),
        "outcome": document.get("outcome"),
        "active": document.get("active"),
        "last known good": document.get("last_known_good"),
        "port": document.get("port"),
        "broker": "connected" if document.get("connected") else "not connected",
        "problem": _joined(problem, "what", "why"),
    }
    return [{"what": what, "value": value} for what, value in shown.items()]


def _joined(part: object, *keys: str) -> str | None:
    if not isinstance(part, dict):
        return None
    return " ".join(str(part.get(key, "")) for key in keys).strip()
