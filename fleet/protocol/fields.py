"""The field types that every document shares, and the base that all documents have."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
DeviceId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$")]
ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$")]
Version = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+-]{0,63}$")]
RolloutId = Annotated[str, StringConstraints(pattern=r"^[0-9a-z-]{1,64}$")]
JobId = Annotated[str, StringConstraints(pattern=r"^[0-9a-z-]{1,64}$")]
Action = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
Schema = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,6}\.[0-9]{1,6}$")]
Text = Annotated[str, StringConstraints(max_length=2000)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Counter = Annotated[int, Field(ge=0, le=2**53)]
UnixTime = Annotated[float, Field(ge=0, le=2**40, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Document(BaseModel):
    """Frozen and strict; a newer minor version's fields are passed over, not refused."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)
