"""Engines, built and to be built, as rows for printing."""

from __future__ import annotations

import shlex
from pathlib import Path

from edgeward.errors import MissingError
from edgeward.runtimes.bundle.read import Bundle

from .build import Finalized, plan_build
from .builder import Order
from .place import Place, built_engines
from .record import PENDING, PLAN_NAME, Record
from .wants import wants_of

COLUMNS = ["bundle", "state", "engine", "device", "mib", "seconds", "verified", "plan"]
PLANNED_COLUMNS = ["field", "value"]
LIST_COLUMNS = ["bundle", "fingerprint", "engine", "device", "mib", "verified", "folder"]


def finalized_row(done: Finalized) -> dict[str, object]:
    """Return what was built, or found built."""
    record = done.built.record
    return {
        "bundle": record.bundle,
        "state": "built" if done.is_new else "there already",
        "engine": f"TensorRT by {record.builder}",
        "device": done.plan.hardware.words,
        "mib": _mib(record),
        "seconds": record.seconds,
        "verified": record.verified,
        "plan": str(done.built.plan),
    }


def planned_rows(bundle: Bundle, cache: Path, workspace_mib: int | None) -> list[dict[str, object]]:
    """Return what a build would do here; what is missing stands in the state, not in an error."""
    wants = wants_of(bundle)
    fields: dict[str, object] = {"bundle": bundle.digest, "graph": str(bundle.entry)}
    for each in wants.shapes:
        ends = (each.least, each.usual, each.most)
        fields[f"shapes of {each.name}"] = " | ".join("x".join(map(str, e)) for e in ends)
    try:
        plan = plan_build(bundle, cache)
    except MissingError as error:
        fields |= {"state": PENDING, "lacking": f"{error.what}: {error.why}", "next": error.next}
    else:
        path, timing = plan.place.folder / PLAN_NAME, plan.place.timing_cache
        order = Order(bundle.entry, path, timing, wants.shapes, workspace_mib)
        fields |= {
            "state": "there already" if plan.place.folder.is_dir() else "to be built",
            "device": plan.hardware.words,
            "fingerprint": plan.hardware.digest,
            "plan": str(path),
            "command": shlex.join(plan.builder.command(order)),
        }
    return [{"field": name, "value": value} for name, value in fields.items()]


def listed_rows(cache: Path) -> list[dict[str, object]]:
    """Return every engine in a cache, of whatever bundle and device."""
    return [_listed(folder, record) for folder, record in built_engines(cache)]


def _listed(folder: Path, record: Record | None) -> dict[str, object]:
    place = Place(folder.parent.parent, folder.parent.name, folder.name)
    row: dict[str, object] = {
        "bundle": place.bundle,
        "fingerprint": place.fingerprint,
        "folder": str(folder),
    }
    if record is None:
        return {**row, "engine": "damaged"}
    device = f"{record.hardware.get('gpu')} sm {record.hardware.get('compute_capability')}"
    engine = f"TensorRT {record.hardware.get('tensorrt')}"
    return {
        **row,
        "engine": engine,
        "device": device,
        "mib": _mib(record),
        "verified": record.verified,
    }


def _mib(record: Record) -> float:
    return round(record.plan_bytes / 2**20, 1)
