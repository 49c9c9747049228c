"""Between the registry's rows and its records."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict
from typing import Any, TypeVar

from ..protocol.documents import Desired, Policy, Reported
from ..protocol.fields import Document
from ..protocol.jobs import Job, JobReport
from ..protocol.release import Release
from .records import (
    DesiredRecord,
    DeviceRecord,
    Event,
    JobRecord,
    MemberRecord,
    ReleaseRecord,
    RolloutRecord,
)
from .rollout import Member, Phase, Rules

D = TypeVar("D", bound=Document)


def dump(document: Document) -> str:
    """Return a document as the registry keeps it."""
    return document.model_dump_json()


def load(text: str, model: type[D]) -> D:
    """Return a document that `dump` wrote."""
    return model.model_validate_json(text)


def device(row: sqlite3.Row, labels: tuple[str, ...]) -> DeviceRecord:
    """Read a device."""
    return DeviceRecord(
        id=row["id"],
        first_seen=row["first_seen"],
        last_seen=row["last_seen"],
        online=bool(row["online"]),
        reported=load(row["reported"], Reported) if row["reported"] else None,
        labels=labels,
    )


def desired(row: sqlite3.Row) -> DesiredRecord:
    """Read a desired document."""
    return DesiredRecord(load(row["document"], Desired), bytes(row["envelope"]))


def release(row: sqlite3.Row) -> ReleaseRecord:
    """Read a release."""
    return ReleaseRecord(row["digest"], load(row["document"], Release), bytes(row["envelope"]))


def rollout(row: sqlite3.Row) -> RolloutRecord:
    """Read a rollout."""
    rules = json.loads(row["rules"])
    return RolloutRecord(
        id=row["id"],
        release=row["release"],
        addressed=row["addressed"],
        rules=Rules(**{**rules, "waves": tuple(rules["waves"])}),
        policy=load(row["policy"], Policy),
        phase=Phase(row["phase"]),
        wave=row["wave"],
        opened_at=row["opened_at"],
        created_at=row["created_at"],
        ended_at=row["ended_at"],
        reason=row["reason"],
        base_requests=row["base_requests"],
        base_errors=row["base_errors"],
    )


def rollout_values(record: RolloutRecord) -> tuple[Any, ...]:
    """Return a rollout's columns in the table's order."""
    return (
        record.id,
        record.release,
        record.addressed,
        json.dumps(asdict(record.rules)),
        dump(record.policy),
        record.phase.value,
        record.wave,
        record.opened_at,
        record.created_at,
        record.ended_at,
        record.reason,
        record.base_requests,
        record.base_errors,
    )


def member(row: sqlite3.Row) -> MemberRecord:
    """Read a member."""
    return MemberRecord(
        rollout=row["rollout"],
        device=row["device"],
        wave=row["wave"],
        state=Member(row["state"]),
        generation=row["generation"],
        offered_at=row["offered_at"],
        forgiven=bool(row["forgiven"]),
        previous=row["previous"],
    )


def member_values(record: MemberRecord) -> tuple[Any, ...]:
    """Return a member's columns in the table's order."""
    return (
        record.rollout,
        record.device,
        record.wave,
        record.state.value,
        record.generation,
        record.offered_at,
        int(record.forgiven),
        record.previous,
    )


def job(row: sqlite3.Row) -> JobRecord:
    """Read a job."""
    report = load(row["report"], JobReport) if row["report"] else None
    return JobRecord(load(row["document"], Job), bytes(row["envelope"]), report, row["ended_at"])


def event(row: sqlite3.Row) -> Event:
    """Read a line of the timeline."""
    return Event(row["at"], row["kind"], row["text"], row["rollout"], row["device"], row["id"])
