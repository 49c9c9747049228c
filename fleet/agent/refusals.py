"""What ends a state's work from outside, and what only time can mend."""

from __future__ import annotations

from edgeward.errors import TrustError


class NotYetError(TrustError):
    """The desired document may not be acted on at this time."""


class InterruptedWorkError(Exception):
    """A state's work was broken off: a newer document came, or the agent is to stop."""
