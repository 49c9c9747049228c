"""Which variant of a release is this device's; rules only."""

from __future__ import annotations

from edgeward.errors import DoesNotFitError, EdgewardError

from ..protocol.release import Release, Variant
from .device import Device
from .rules import check_memory

SHOWN = 8


def choose(release: Release, device: Device) -> Variant:
    """Return the best variant that runs here; of equals, the one that is listed first.

    Raises DoesNotFitError with the reason for each variant where none does.
    """
    ranked = [(_rank(variant, device), variant) for variant in release.variants]
    fitting = [(rank, variant) for rank, variant in ranked if isinstance(rank, int)]
    if not fitting:
        reasons = [f"{variant.target}: {why}" for why, variant in ranked[:SHOWN]]
        raise DoesNotFitError(
            f"{release.model} {release.version} has no variant for this device",
            why="; ".join(reasons),
        )
    return max(fitting, key=lambda pair: pair[0])[1]


def _rank(variant: Variant, device: Device) -> int | str:
    """Return how well a variant fits, or why it does not."""
    try:
        device.check_engine(variant)
        check_memory(variant, device.memory_bytes)
        return device.rank(variant.target)
    except EdgewardError as error:
        return error.why or error.what
