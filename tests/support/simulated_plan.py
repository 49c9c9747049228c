"""What the simulated builders write in place of a plan: the profile, then the graph itself."""

from __future__ import annotations

import json
from typing import Any

MAGIC = b"simulated plan\n"
Profile = dict[str, list[list[int]]]


def make_plan(version: str, profile: Profile, graph: bytes) -> bytes:
    head = json.dumps({"version": version, "profile": profile}).encode()
    return MAGIC + head + b"\n" + graph


def read_plan(data: bytes) -> tuple[dict[str, Any], bytes] | None:
    if not data.startswith(MAGIC):
        return None
    head, _, graph = data[len(MAGIC) :].partition(b"\n")
    return json.loads(head), graph
