"""What we know of the devices: profiles, probe, benchmark harness.

The names in `__all__` are imported on first use, so that importing the room costs nothing. `load`,
`match` and `probe` are modules here; their functions of the same name are in them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bench.host import Machine, machine, temperature_c
    from .bench.latencies import Measurement, measure
    from .derive import measure_bandwidth, profile_from
    from .fingerprint import Fingerprint
    from .load import names
    from .match import Match, best, compatible, ranked
    from .profile import Profile

__all__ = [
    "Fingerprint",
    "Machine",
    "Match",
    "Measurement",
    "Profile",
    "best",
    "compatible",
    "machine",
    "measure",
    "measure_bandwidth",
    "names",
    "profile_from",
    "ranked",
    "temperature_c",
]
_HOMES = {
    "Fingerprint": "fingerprint",
    "Machine": "bench.host",
    "Match": "match",
    "Measurement": "bench.latencies",
    "Profile": "profile",
    "best": "match",
    "compatible": "match",
    "machine": "bench.host",
    "measure": "bench.latencies",
    "measure_bandwidth": "derive",
    "names": "load",
    "profile_from": "derive",
    "ranked": "match",
    "temperature_c": "bench.host",
}


def __getattr__(name: str) -> object:
    """Import a public name from the module that holds it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
