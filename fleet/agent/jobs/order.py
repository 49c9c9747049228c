"""What a job's child is told by the agent, as JSON between the two, and what it answers."""

from __future__ import annotations

from typing import Any, Protocol

from pydantic import Field, ValidationError

from edgeward.errors import FleetError, ManifestError, ProtocolError
from edgeward.runtimes.bundle.canonical import canonical_bytes, parse
from edgeward.runtimes.bundle.manifest import reason

from ...protocol.documents import Problem
from ...protocol.fields import Document, Name, Sha256, Text
from ...protocol.jobs import Job, JobState, check_result_size


class RefusedJobError(FleetError):
    """A job that this device cannot do."""


class Order(Document):
    """A job and where it is done; `serving` is the bundle that the agent serves meanwhile."""

    job: Job
    home: Text
    target: Name | None = None
    serving: Sha256 | None = None

    def to_json(self) -> str:
        """Return it as an argument."""
        return canonical_bytes(self.model_dump(mode="json")).decode()


class Doer(Protocol):
    """An action's module; it runs in a child of the agent, which outlives whatever it does."""

    def run(self, order: Order) -> dict[str, Any]:
        """Do the job and return its result, at most `MAX_RESULT_BYTES` of JSON.

        RefusedJobError or UsageError where this device cannot; any other error is a failure.
        """
        ...


class Answer(Document):
    """How a job ended; `result` is empty unless it was done."""

    state: JobState
    problem: Problem | None = None
    result: dict[str, Any] = Field(default_factory=dict, max_length=512)


def read_answer(output: bytes) -> Answer:
    """Return what a child printed; ProtocolError where it is no answer, or one that is too large.

    A child that a bundle drove mad is as much a stranger as anybody.
    """
    try:
        answer = Answer.model_validate_json(canonical_bytes(parse(output, "answer")))
    except ManifestError as error:
        raise ProtocolError(error.what, why=error.why) from None
    except (ValidationError, RecursionError) as error:
        raise ProtocolError("The job's answer is none", why=reason(error)) from None
    check_result_size(answer.result)
    return answer
