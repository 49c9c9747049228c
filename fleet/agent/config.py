"""agent.json and trust.json: who the device is and whose word counts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from edgeward.errors import FleetError, ManifestError, TrustError
from edgeward.runtimes.bundle.canonical import parse
from edgeward.runtimes.bundle.manifest import reason

from ..protocol.fields import DeviceId, Name, Number, Text
from ..trust.keys import PublicKey, public_key
from .files import write_atomic
from .home import Home

MAX_FILE_BYTES = 256 * 1024
M = TypeVar("M", bound=BaseModel)


class AgentConfig(BaseModel):
    """`target` and `fingerprint` override what a probe of the machine would find.

    `build_seconds` is how long the device may build a bundle's engine.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    device: DeviceId
    controller: Text
    mqtt: Text | None = None
    target: Name | None = None
    fingerprint: dict[Name, str | int | float | bool | None] = Field(
        default_factory=dict, max_length=64
    )
    poll_seconds: Number = Field(default=60.0, ge=0.05, le=86_400)
    build_seconds: Number = Field(default=7200.0, gt=0, le=86_400)
    reserve_bytes: int = Field(default=64 * 2**20, ge=0)
    serve_host: Name = "127.0.0.1"
    serve_port: int = Field(default=0, ge=0, le=65_535)

    @field_validator("controller")
    @classmethod
    def _is_http(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("a controller's URL begins with http:// or https://")
        return url

    @field_validator("mqtt")
    @classmethod
    def _is_mqtt(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
            raise ValueError("a broker's URL begins with mqtt:// or mqtts://")
        return url


class TrustFile(BaseModel):
    """Keys as hexadecimal digits, as `GET /v1/trust` gives them."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    controller_keys: list[Name] = Field(min_length=1, max_length=16)
    release_keys: list[Name] = Field(min_length=1, max_length=16)
    mqtt: Text | None = None


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose desired documents and whose releases count."""

    controller: tuple[PublicKey, ...]
    release: tuple[PublicKey, ...]


def load_config(home: Home) -> AgentConfig:
    """Read agent.json; FleetError says what is wrong with it."""
    return _load(home, "agent.json", AgentConfig)


def load_trust(home: Home) -> Trust:
    """Read trust.json; TrustError where a key is none."""
    return trust_of(_load(home, "trust.json", TrustFile))


def trust_of(file: TrustFile) -> Trust:
    """Return the keys that a trust file lists."""
    return Trust(
        tuple(public_key(text) for text in file.controller_keys),
        tuple(public_key(text) for text in file.release_keys),
    )


def parse_trust(data: bytes) -> TrustFile:
    """Read what a controller offers; TrustError where it is not that."""
    try:
        file = TrustFile.model_validate(parse(data, "trust document"))
    except ManifestError as error:
        raise TrustError(error.what, why=error.why) from None
    except (ValidationError, RecursionError) as error:
        raise TrustError("The controller's trust document is not one", why=reason(error)) from None
    trust_of(file)
    return file


def save(home: Home, name: str, model: BaseModel) -> None:
    """Write a settings file, whole or not at all."""
    text = json.dumps(model.model_dump(mode="json"), indent=2, sort_keys=True) + "\n"
    write_atomic(home.root / name, text.encode())


def _load(home: Home, name: str, model: type[M]) -> M:
    path = home.root / name
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES)
        return model.model_validate(parse(data, name))
    except FileNotFoundError:
        raise FleetError(
            f"{home.root} is not an agent's home",
            why=f"it has no {name}",
            next=f"edgeward agent enroll --home {home.root} --controller URL --id ID",
        ) from None
    except OSError as error:
        raise FleetError(f"{path} cannot be read", why=error.strerror or str(error)) from None
    except ManifestError as error:
        raise FleetError(error.what, why=error.why) from None
    except ValidationError as error:
        raise FleetError(f"{path} is not right", why=reason(error)) from None
