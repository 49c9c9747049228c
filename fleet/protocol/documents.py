"""What travels over MQTT: desired (signed), reported, online, stats."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

from pydantic import Field

from .fields import (
    Counter,
    DeviceId,
    Document,
    ModelName,
    Name,
    Number,
    RolloutId,
    Schema,
    Sha256,
    Text,
    UnixTime,
    Version,
)


class State(str, Enum):
    """Where an agent stands; the order is the order of an update."""

    IDLE = "idle"
    RESOLVE = "resolve"
    PREFLIGHT = "preflight"
    DOWNLOAD = "download"
    VERIFY = "verify"
    STAGE = "stage"
    FINALIZE = "finalize"
    GATE = "gate"
    ACTIVATE = "activate"
    SOAK = "soak"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    QUARANTINE = "quarantine"


class ReleaseRef(Document):
    """A release by name and by the digest of its signed document."""

    model: ModelName
    version: Version
    digest: Sha256


class Policy(Document):
    """How a device goes about an update."""

    soak_seconds: Number = Field(default=60.0, ge=0, le=30 * 86_400)
    gate_timeout_seconds: Number = Field(default=600.0, gt=0, le=86_400)
    max_error_rate: Number = Field(default=0.02, ge=0, le=1)
    allow_degraded: bool = False


class Desired(Document):
    """What one device should run; always inside a signed envelope."""

    kind: Literal["desired"] = "desired"
    schema_version: Schema = "1.0"
    device: DeviceId
    generation: Counter
    release: ReleaseRef | None = None
    rollout: RolloutId | None = None
    policy: Policy = Policy()
    permit: dict[str, Any] | None = None
    issued_at: UnixTime
    not_before: UnixTime = 0.0
    expires_at: UnixTime


class Problem(Document):
    """An error as a device reports it: the class for counting, the words for people."""

    error: Name
    what: Text
    why: Text = ""


class GateFigure(Document):
    """One figure of the on-device gate beside its bound."""

    metric: Name
    value: Number
    bound: Number
    direction: Literal["at-least", "at-most"]
    passed: bool


class GateReport(Document):
    """What the gate found for one bundle on this device."""

    bundle: Sha256
    passed: bool
    figures: list[GateFigure] = Field(default_factory=list, max_length=64)
    engine: Text = ""


class Outcome(str, Enum):
    """How the last update that ended went."""

    COMMITTED = "committed"
    REFUSED = "refused"
    ROLLED_BACK = "rolled-back"
    FAILED = "failed"


class Reported(Document):
    """Where a device stands; `boot` and `sequence` order documents of one device."""

    kind: Literal["reported"] = "reported"
    schema_version: Schema = "1.0"
    device: DeviceId
    boot: Counter
    sequence: Counter
    at: UnixTime
    agent: Name
    generation: Counter
    state: State
    release: ReleaseRef | None = None
    rollout: RolloutId | None = None
    outcome: Outcome | None = None
    active: Sha256 | None = None
    last_known_good: Sha256 | None = None
    quarantined: list[Sha256] = Field(default_factory=list, max_length=32)
    target: Name | None = None
    fingerprint: Sha256 | None = None
    free_bytes: Counter = 0
    gate: GateReport | None = None
    problem: Problem | None = None


class Online(Document):
    """Birth and last will; a will of an older connection cannot end a newer session."""

    kind: Literal["online"] = "online"
    schema_version: Schema = "1.0"
    device: DeviceId
    boot: Counter
    connection: Counter
    online: bool


class Stats(Document):
    """One interval of endpoint statistics: counters and mergeable sketches."""

    kind: Literal["stats"] = "stats"
    schema_version: Schema = "1.0"
    device: DeviceId
    boot: Counter
    sequence: Counter
    bundle: Sha256
    started_at: UnixTime
    ended_at: UnixTime
    delta: dict[str, Any]
