"""What we know of the devices: profiles, probe, benchmark harness."""

from .bench import Machine, Measurement, machine, measure, temperature_c
from .derive import measure_bandwidth, profile_from
from .fingerprint import Fingerprint
from .load import load, names
from .match import Match, best, compatible, match, ranked
from .probe import probe
from .profile import Profile

__all__ = [
    "Fingerprint",
    "Machine",
    "Match",
    "Measurement",
    "Profile",
    "best",
    "compatible",
    "load",
    "machine",
    "match",
    "measure",
    "measure_bandwidth",
    "names",
    "probe",
    "profile_from",
    "ranked",
    "temperature_c",
]
