"""A release: one model version and its variants, signed off line."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .fields import Counter, Document, ModelName, Name, Schema, Sha256, Text, UnixTime, Version


class Variant(Document):
    """One bundle of a release and the devices it is meant for."""

    bundle: Sha256
    target: Name
    target_digest: Sha256
    format: Name
    precision: Name
    size: Counter
    needs_memory_bytes: Counter = 0
    engine: Name
    degraded: bool = False


class Release(Document):
    """`sequence` grows with every release of a model: devices keep it as their floor."""

    kind: Literal["release"] = "release"
    schema_version: Schema = "1.0"
    model: ModelName
    version: Version
    sequence: Counter
    created_at: UnixTime
    notes: Text = ""
    variants: list[Variant] = Field(min_length=1, max_length=200)


class Permit(Document):
    """Leave to go below a device's floor, signed by a release key; `device="*"` is all."""

    kind: Literal["permit"] = "permit"
    schema_version: Schema = "1.0"
    model: ModelName
    device: Name
    to_sequence: Counter
    expires_at: UnixTime
