"""The bodies that operators send, distrusted like everything from outside."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeward.errors import ManifestError, UsageError
from edgeward.runtimes.bundle.canonical import canonical_bytes, parse
from edgeward.runtimes.bundle.manifest import reason

from ..protocol.documents import Policy
from ..protocol.fields import Action, ModelName, Name, Text, Version
from .rollout import Rules

Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=30 * 86_400, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Body(BaseModel):
    """Strict, and unknown fields are mistakes: an operator's typing error is not passed over."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class RolloutRequest(Body):
    """POST /v1/rollouts."""

    model: ModelName
    version: Version
    to: Annotated[str, Field(min_length=1, max_length=8192)]
    waves: Annotated[list[Share], Field(min_length=1, max_length=20)] = [0.5, 1.0]
    soak_seconds: Seconds = 60.0
    gate_timeout_seconds: Annotated[Seconds, Field(gt=0, le=86_400)] = 600.0
    wave_timeout_seconds: Annotated[Seconds, Field(gt=0)] = 3600.0
    min_soak_seconds: Seconds = 0.0
    min_sample: Annotated[int, Field(ge=1, le=10**6)] | None = None
    max_failures: Annotated[int, Field(ge=0, le=10**6)] = 0
    max_error_rate: Rate = 0.02
    min_requests: Annotated[int, Field(ge=1, le=10**9)] = 20
    allow_degraded: bool = False

    @property
    def rules(self) -> Rules:
        """The controller's part."""
        return Rules(
            waves=tuple(self.waves),
            max_failures=self.max_failures,
            wave_timeout_seconds=self.wave_timeout_seconds,
            min_sample=self.min_sample,
            min_soak_seconds=self.min_soak_seconds,
            max_error_rate=self.max_error_rate,
            min_requests=self.min_requests,
        )

    @property
    def policy(self) -> Policy:
        """The devices' part."""
        return Policy(
            soak_seconds=self.soak_seconds,
            gate_timeout_seconds=self.gate_timeout_seconds,
            max_error_rate=self.max_error_rate,
            allow_degraded=self.allow_degraded,
        )


class HaltRequest(Body):
    """POST /v1/rollouts/{id}/halt."""

    reason: Text = "halted by the operator"


class ResumeRequest(Body):
    """POST /v1/rollouts/{id}/resume."""

    retry_failed: bool = False


class LabelsRequest(Body):
    """POST /v1/devices/{id}/labels."""

    add: Annotated[list[Name], Field(max_length=64)] = []
    remove: Annotated[list[Name], Field(max_length=64)] = []


class JobRequest(Body):
    """POST /v1/devices/{id}/jobs; it may begin for `expires_seconds` from now."""

    action: Action
    arguments: Annotated[dict[str, Any], Field(max_length=64)] = {}
    timeout_seconds: Annotated[Seconds, Field(gt=0, le=86_400)] = 3600.0
    expires_seconds: Annotated[Seconds, Field(ge=1)] = 86_400.0


B = TypeVar("B", bound=Body)


def read_body(data: bytes, kind: type[B]) -> B:
    """Return the body of a request; UsageError says what is wrong with it."""
    try:
        document = parse(data or b"{}", "request")
        return kind.model_validate_json(canonical_bytes(document))
    except ManifestError as error:
        raise UsageError(error.what, why=error.why) from None
    except ValidationError as error:
        raise UsageError("The request cannot be read", why=reason(error)) from None
