"""The registry as the operator's API shows it: plain JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .conductor import Conductor
from .records import DeviceRecord, JobRecord, MemberRecord, ReleaseRecord, RolloutRecord
from .rollout import FAILURES, Member
from .stats import total
from .store import Store

STATS_BY = ("device", "bundle", "device,bundle")


def device_view(record: DeviceRecord) -> dict[str, Any]:
    """Return one device as a row."""
    reported = record.reported
    row: dict[str, Any] = {
        "id": record.id,
        "online": record.online,
        "labels": list(record.labels),
        "first_seen": record.first_seen,
        "last_seen": record.last_seen,
    }
    if reported is None:
        return row
    release = reported.release
    return row | {
        "state": reported.state.value,
        "outcome": reported.outcome.value if reported.outcome else None,
        "target": reported.target,
        "model": release.model if release else None,
        "version": release.version if release else None,
        "active": reported.active,
        "generation": reported.generation,
        "rollout": reported.rollout,
        "free_bytes": reported.free_bytes,
        "quarantined": list(reported.quarantined),
        "problem": reported.problem.what if reported.problem else None,
        "agent": reported.agent,
    }


def device_detail(store: Store, record: DeviceRecord) -> dict[str, Any]:
    """Return a device with its whole report and what it should run."""
    desired = store.desired(record.id)
    return device_view(record) | {
        "reported": record.reported.model_dump(mode="json") if record.reported else None,
        "desired": desired.document.model_dump(mode="json") if desired else None,
    }


def release_view(record: ReleaseRecord) -> dict[str, Any]:
    """Return a release with its variants."""
    return {"digest": record.digest} | record.release.model_dump(mode="json")


def rollout_view(conductor: Conductor, record: RolloutRecord, now: float) -> dict[str, Any]:
    """Return a rollout with its waves counted."""
    members = conductor.store.members(record.id)
    release = conductor.store.release(record.release)
    progress = conductor.progress(record, members)
    return {
        "id": record.id,
        "model": release.release.model if release else None,
        "version": release.release.version if release else None,
        "release": record.release,
        "to": record.addressed,
        "phase": record.phase.value,
        "reason": record.reason,
        "wave": record.wave + 1,
        "waves": [_wave(record, members, wave) for wave in range(len(record.rules.waves))],
        "devices": len(members),
        "committed": sum(member.state is Member.COMMITTED for member in members),
        "failed": sum(member.state in FAILURES for member in members),
        "requests": progress.requests,
        "errors": progress.errors,
        "created_at": record.created_at,
        "opened_at": record.opened_at,
        "ended_at": record.ended_at,
        "open_seconds": max(0.0, (record.ended_at or now) - record.opened_at),
        "rules": asdict(record.rules),
        "policy": record.policy.model_dump(mode="json"),
    }


def rollout_detail(conductor: Conductor, record: RolloutRecord, now: float) -> dict[str, Any]:
    """Return a rollout with its members and its timeline."""
    store = conductor.store
    targets = {d.id: d.reported.target for d in store.devices() if d.reported}
    members = [
        {
            "device": member.device,
            "wave": member.wave + 1,
            "state": member.state.value,
            "generation": member.generation,
            "offered_at": member.offered_at,
            "forgiven": member.forgiven,
            "previous": member.previous,
            "target": targets.get(member.device),
        }
        for member in store.members(record.id)
    ]
    timeline = [asdict(event) for event in store.events(record.id)]
    return rollout_view(conductor, record, now) | {"members": members, "timeline": timeline}


def job_view(record: JobRecord, now: float) -> dict[str, Any]:
    """Return a job as a row; it is `open` until its report came or its time is over."""
    job, report = record.job, record.report
    state = "expired" if now >= job.expires_at else "open"
    return {
        "id": job.id,
        "device": job.device,
        "action": job.action,
        "state": report.state.value if report else state,
        "problem": report.problem.what if report and report.problem else None,
        "issued_at": job.issued_at,
        "expires_at": job.expires_at,
        "ended_at": record.ended_at,
    }


def job_detail(record: JobRecord, now: float) -> dict[str, Any]:
    """Return a job with its arguments and the whole of its report."""
    return job_view(record, now) | {
        "arguments": record.job.arguments,
        "timeout_seconds": record.job.timeout_seconds,
        "report": record.report.model_dump(mode="json") if record.report else None,
    }


def stats_view(store: Store, by: str, since: float) -> list[dict[str, Any]]:
    """Return figures grouped by device, bundle or both."""
    parts = store.stats(since=since)
    names = by.split(",")
    groups: dict[tuple[str, ...], list[Any]] = {}
    for device, bundle, totals in parts:
        key = tuple({"device": device, "bundle": bundle}[name] for name in names)
        groups.setdefault(key, []).append(totals)
    found = [
        dict(zip(names, key, strict=True)) | total(group).row() for key, group in groups.items()
    ]
    return sorted(found, key=lambda row: tuple(row[name] for name in names))


def _wave(record: RolloutRecord, members: Sequence[MemberRecord], wave: int) -> dict[str, Any]:
    states = Counter(member.state.value for member in members if member.wave == wave)
    return {
        "wave": wave + 1,
        "share": record.rules.waves[wave],
        "devices": sum(states.values()),
        "states": dict(sorted(states.items())),
    }
