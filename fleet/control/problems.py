"""The controller's own refusals, each with the HTTP status that carries it."""

from __future__ import annotations

from edgeward import errors
from edgeward.errors import EdgewardError, FleetError, IntegrityError, TrustError, UsageError


class NotThereError(FleetError):
    """What was asked for does not exist here."""


class ConflictError(FleetError):
    """What was asked contradicts what stands."""


class FullError(FleetError):
    """The disk or the quota holds no more."""


class TooLargeError(FleetError):
    """A body above its limit."""


class DeniedError(TrustError):
    """The operator's token is missing or wrong."""


STATUS: tuple[tuple[type[EdgewardError], int], ...] = (
    (NotThereError, 404),
    (ConflictError, 409),
    (FullError, 507),
    (TooLargeError, 413),
    (DeniedError, 401),
    (TrustError, 403),
    (IntegrityError, 422),
    (UsageError, 400),
    (FleetError, 409),
    (EdgewardError, 400),
)
_OWN: dict[str, type[EdgewardError]] = {
    kind.__name__: kind
    for kind in (NotThereError, ConflictError, FullError, TooLargeError, DeniedError)
}


def status_of(error: EdgewardError) -> int:
    """Return the HTTP status for an error."""
    return next(status for kind, status in STATUS if isinstance(error, kind))


def to_json(error: EdgewardError) -> dict[str, str]:
    """Return the error as the HTTP surface writes it."""
    return {
        "error": type(error).__name__,
        "what": error.what,
        "why": error.why,
        "next": error.next,
    }


def from_json(document: object, status: int) -> EdgewardError:
    """Return the error that a controller's answer stands for; a FleetError where it is unknown."""
    if not isinstance(document, dict):
        return FleetError(f"The controller answered {status}")
    name = str(document.get("error", ""))
    kind = _OWN.get(name) or getattr(errors, name, FleetError)
    if not (isinstance(kind, type) and issubclass(kind, EdgewardError)):
        kind = FleetError
    what = str(document.get("what") or f"The controller answered {status}")
    return kind(what, why=str(document.get("why", "")), next=str(document.get("next", "")))
