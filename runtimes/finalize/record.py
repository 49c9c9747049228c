"""`engine.json`: what lies beside a plan and says where it came from."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeward.errors import BundleError, IntegrityError
from edgeward.runtimes.bundle.canonical import parse
from edgeward.runtimes.bundle.manifest import Check, Name, Number, Sha256, Size, Text
from edgeward.runtimes.bundle.read import Depth, sha256_of

PLAN_NAME, RECORD_NAME = "model.plan", "engine.json"
MAX_RECORD_BYTES = 2**20
PENDING, BY_ENGINE = "pending-on-target", "engine"


class Golden(BaseModel):
    """What the golden inputs showed on the built engine."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    passed: bool
    checks: list[Check] = Field(max_length=256)
    latency_ms: dict[Name, Number] = Field(default_factory=dict, max_length=16)


class Record(BaseModel):
    """One built engine; `verified` says whether its golden inputs were run where it was built."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    bundle: Sha256
    fingerprint: Sha256
    hardware: dict[Name, Text] = Field(max_length=32)
    builder: Name
    ranges: Text
    plan_sha256: Sha256
    plan_bytes: Size
    seconds: Number
    peak_memory_bytes: Size
    built_at: Number
    verified: Name
    golden: Golden | None = None


def read_record(folder: Path) -> Record:
    """Return the record of an engine's folder; IntegrityError where it is none."""
    path = folder / RECORD_NAME
    try:
        with path.open("rb") as file:
            data = file.read(MAX_RECORD_BYTES)
        return Record.model_validate(parse(data, "engine's record"))
    except (OSError, BundleError, ValidationError, RecursionError) as error:
        words = str(error).strip().splitlines() or [type(error).__name__]
        raise IntegrityError(f"{path} says nothing of its engine", why=words[0][:300]) from None


def check_plan(folder: Path, record: Record, check: Depth = "digests") -> Path:
    """Return the plan's path; IntegrityError where it is not the one that was built."""
    path = folder / PLAN_NAME
    try:
        size = path.stat().st_size
        is_same = size == record.plan_bytes and (
            check == "sizes" or sha256_of(path) == record.plan_sha256
        )
    except OSError as error:
        raise IntegrityError(f"{path} cannot be read", why=str(error)) from None
    if not is_same:
        raise IntegrityError(f"{path} is not the plan that was built", why="damaged or replaced")
    return path
