"""Jobs: what a controller asks of one device once, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import Field

from edgeward.errors import ManifestError, ProtocolError
from edgeward.runtimes.bundle.canonical import canonical_bytes, parse

from .documents import Problem
from .fields import Action, DeviceId, Document, JobId, Number, Schema, UnixTime

MAX_JOB_BYTES = 8 * 1024
# Above what any broker carries nothing comes back; the rest of a report is small.
MAX_RESULT_BYTES = 48 * 1024
MAX_WAITING = 32
MAX_AWAITED = 256
MAX_ANSWER_BYTES = MAX_WAITING * MAX_JOB_BYTES + MAX_AWAITED * 80

Seconds = Annotated[Number, Field(gt=0, le=86_400)]


class Job(Document):
    """Always inside an envelope that the controller signed; a device does an `id` once.

    `timeout_seconds` bounds the work itself, `expires_at` the moment at which it may begin.
    """

    kind: Literal["job"] = "job"
    schema_version: Schema = "1.0"
    id: JobId
    device: DeviceId
    action: Action
    arguments: dict[str, Any] = Field(default_factory=dict, max_length=64)
    timeout_seconds: Seconds = 3600.0
    issued_at: UnixTime
    expires_at: UnixTime


class JobState(str, Enum):
    """How a job ended; `refused` is a job that this device cannot do."""

    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"


class JobReport(Document):
    """What came of a job; `result` is the action's own, empty unless it was done."""

    kind: Literal["job-report"] = "job-report"
    schema_version: Schema = "1.0"
    job: JobId
    device: DeviceId
    state: JobState
    problem: Problem | None = None
    result: dict[str, Any] = Field(default_factory=dict, max_length=512)
    at: UnixTime


def check_job_size(envelope: bytes) -> bytes:
    """Return a sealed job, or raise ProtocolError where no list could hold it."""
    if len(envelope) > MAX_JOB_BYTES:
        raise ProtocolError(
            f"A job of {len(envelope)} bytes is too large", why=f"at most {MAX_JOB_BYTES}"
        )
    return envelope


def check_result_size(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result, or raise ProtocolError where no report could carry it."""
    size = len(canonical_bytes(result))
    if size > MAX_RESULT_BYTES:
        raise ProtocolError(
            f"A result of {size} bytes is too large", why=f"at most {MAX_RESULT_BYTES}"
        )
    return result


def pack(envelopes: list[bytes], awaited: list[str]) -> bytes:
    """Return the answer to `GET /v1/devices/{id}/jobs`.

    `envelopes` are the sealed jobs that may still begin, `awaited` the ids without a report.
    """
    jobs = b",".join(envelopes)
    return b'{"awaited":' + canonical_bytes(awaited) + b',"jobs":[' + jobs + b"]}"


def unpack(data: bytes) -> tuple[list[dict[str, Any]], frozenset[str]]:
    """Return what `pack` was given, the envelopes parsed and nothing of them believed yet.

    Raises ProtocolError where it is no such answer.
    """
    if len(data) > MAX_ANSWER_BYTES:
        raise ProtocolError(f"A list of jobs of {len(data)} bytes is too large")
    try:
        document = parse(data, "list of jobs")
    except ManifestError as error:
        raise ProtocolError(error.what, why=error.why) from None
    jobs, awaited = document.get("jobs"), document.get("awaited")
    if not isinstance(jobs, list) or not isinstance(awaited, list):
        raise ProtocolError("The list of jobs is none", why="it has no `jobs` and `awaited`")
    envelopes = [each for each in jobs if isinstance(each, dict)]
    return envelopes[:MAX_WAITING], frozenset(_ids(awaited))


def _ids(awaited: list[Any]) -> Iterator[str]:
    yield from (each for each in awaited[:MAX_AWAITED] if isinstance(each, str))
