"""What a Core ML package is made for: the least system, sizes of its parts, length of its cache."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgeward.errors import UnsupportedError, UsageError
from edgeward.targets.profile import Engine, Profile

from .context_length import CONTEXT_LENGTH, context_length

if TYPE_CHECKING:
    from .base import Job

ENGINE = "coreml"
CHUNK_SIZE, MINIMUM_IOS = "chunk-size", "minimum-ios"
OPTIONS = frozenset({CHUNK_SIZE, CONTEXT_LENGTH, MINIMUM_IOS})
# Core ML's own version beside the iOS that brought it; macOS is three numbers lower until 18.
IOS_OF_COREML: Mapping[int, int] = {6: 16, 7: 17, 8: 18}
# What a precision's operators need: tables of groups, blocks and 4 bits came with iOS 18.
LEAST_IOS: Mapping[str, int] = {
    "int8-weights": 16,
    "palette6": 16,
    "w8a8": 17,
    "palette4": 18,
    "int4-weights": 18,
    "int4-channels": 18,
    "mixed": 18,
}
STATES_FROM_IOS = 18
DEFAULT_CACHE = 512
# Read in reports of others, not measured here: above this a chunk leaves the Neural Engine.
CHUNK_BYTES: Mapping[bool, int] = {True: 1_000_000_000, False: 1_700_000_000}
WIDEST = 16_384
# Inputs of a product that share a scale where a precision is by blocks.
BLOCK = 32
_SIZE = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,3}))? ?(kB|MB|GB|K|M|G)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def ios_of(job: Job) -> int:
    """Return the least iOS (16, 17 or 18) that the package is to run on.

    What `minimum-ios` says, else what the profile's engine is at least. Raises UsageError for
    another, UnsupportedError where the profile has no Core ML or the precision needs a newer one.
    """
    ios = _asked(job) or _of_profile(job.profile)
    least = LEAST_IOS.get(job.recipe.precision, min(IOS_OF_COREML.values()))
    if ios < least:
        raise UnsupportedError(
            f"{job.recipe.precision} needs iOS {least}",
            why=f"the package is to run on iOS {ios}, whose Core ML lacks its operators",
            next=f"edgeward compile … --minimum-ios {least}",
        )
    return ios


def chunk_bytes(job: Job) -> int:
    """Return how many bytes of weights a package may have; UsageError for what is no size."""
    given = job.options.get(CHUNK_SIZE)
    if not given:
        return CHUNK_BYTES[job.recipe.precision not in ("fp32", "fp16")]
    found = _SIZE.fullmatch(given[-1])
    if found is None or not any(character in "123456789" for character in given[-1]):
        raise UsageError(f"{CHUNK_SIZE}={given[-1][:20]} is no size", next="--chunk-size 500MB")
    whole, part, unit = found.groups(default="")
    return int(float(f"{whole}.{part or 0}") * _UNITS[unit[:1].lower()])


def cache_length(job: Job) -> int:
    """Return how many tokens a cache holds; UsageError for what cannot be."""
    length = context_length(job, DEFAULT_CACHE)
    if length > WIDEST:
        raise UsageError(
            f"{CONTEXT_LENGTH}={length} cannot be",
            why=f"an axis above {WIDEST} leaves the Neural Engine",
        )
    return length


def engine_of(profile: Profile) -> Engine:
    """Return the profile's Core ML; UnsupportedError where it has none."""
    for engine in profile.engines:
        if engine.name == ENGINE:
            return engine
    raise UnsupportedError(
        f"{profile.name} runs no Core ML", why="its profile names no coreml engine"
    )


def _asked(job: Job) -> int | None:
    given = job.options.get(MINIMUM_IOS)
    if not given:
        return None
    if given[-1] not in map(str, IOS_OF_COREML.values()):
        raise UsageError(
            f"{MINIMUM_IOS}={given[-1][:20]} is none of the systems that packages are made for",
            why=f"they are {', '.join(map(str, IOS_OF_COREML.values()))}",
        )
    return int(given[-1])


def _of_profile(profile: Profile) -> int:
    engine = engine_of(profile)
    allowed = [ios for version, ios in IOS_OF_COREML.items() if engine.allows(str(version))]
    return min(allowed, default=max(IOS_OF_COREML.values()))
