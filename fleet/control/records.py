"""The registry's rows as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from ..protocol.documents import Desired, Policy, ReleaseRef, Reported
from ..protocol.jobs import Job, JobReport
from ..protocol.release import Release
from .rollout import Member, Phase, Rules, Standing


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """A device as it was last heard; times are seconds since 1970."""

    id: str
    first_seen: float
    last_seen: float
    online: bool
    reported: Reported | None
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DesiredRecord:
    """What a device should run: the document and its sealed envelope as it travels."""

    document: Desired
    envelope: bytes


@dataclass(frozen=True, slots=True)
class ReleaseRecord:
    """A release and its sealed envelope, named by the digest of what was signed."""

    digest: str
    release: Release
    envelope: bytes

    @property
    def ref(self) -> ReleaseRef:
        """The release as desired documents name it."""
        return ReleaseRef(
            model=self.release.model, version=self.release.version, digest=self.digest
        )


@dataclass(frozen=True, slots=True)
class RolloutRecord:
    """A rollout; `addressed` is the operator's words, `wave` the one that is open.

    `base_requests` and `base_errors` were counted before it began or was resumed.
    """

    id: str
    release: str
    addressed: str
    rules: Rules
    policy: Policy
    phase: Phase
    wave: int
    opened_at: float
    created_at: float
    ended_at: float | None = None
    reason: str = ""
    base_requests: int = 0
    base_errors: int = 0


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """A device in a rollout: the generation it was offered, the release it had before."""

    rollout: str
    device: str
    wave: int
    state: Member
    generation: int = 0
    offered_at: float = 0.0
    forgiven: bool = False
    previous: str | None = None

    @property
    def standing(self) -> Standing:
        """The member as the rules see it."""
        return Standing(self.device, self.wave, self.state, self.offered_at, self.forgiven)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job, its sealed envelope, and what came of it at `ended_at`."""

    job: Job
    envelope: bytes
    report: JobReport | None = None
    ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a timeline."""

    at: float
    kind: str
    text: str
    rollout: str | None = None
    device: str | None = None
    id: int = 0
