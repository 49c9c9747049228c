"""What a machine says about itself: enough to choose a variant and to key what is built there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from edgeward.errors import ProtocolError

MAX_JSON_BYTES = 64 * 1024
MAX_TEXT = 200
MAX_ITEMS = 64
MAX_MEMORY_BYTES = 2**53
MAX_CORES = 65_536


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A machine's hardware and software; None and empty where it does not say.

    `memory_bytes` is what the system or its control group grants, less than what is soldered on;
    `gpu_memory_bytes` what the first GPU has beside it.
    `engines` are the inference engines installed, name -> version.
    """

    arch: str
    os: str
    kernel: str
    cpu_model: str
    cores: int
    memory_bytes: int
    cpu_flags: tuple[str, ...] = ()
    device_tree_model: str | None = None
    device_tree_compatible: tuple[str, ...] = ()
    l4t_release: str | None = None
    gpu_name: str | None = None
    gpu_memory_bytes: int | None = None
    compute_capability: str | None = None
    driver_version: str | None = None
    python_version: str | None = None
    engines: Mapping[str, str] = field(default_factory=dict, hash=False)

    def to_json(self) -> str:
        """Return the canonical JSON: sorted keys, no spaces, ASCII."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """Return the sha256 of the canonical JSON, in hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str | bytes) -> Fingerprint:
        """Return the fingerprint in JSON that another machine sent; ProtocolError if it is none.

        Keys that we do not know are passed over: a newer agent may say more.
        """
        if len(text) > MAX_JSON_BYTES:
            raise _refused(f"it has more than {MAX_JSON_BYTES} bytes")
        try:
            document = json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise _refused("it is not JSON") from error
        if not isinstance(document, dict):
            raise _refused("it is not an object")
        return cls.from_dict(document)

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> Fingerprint:
        """Return the fingerprint in parsed JSON; ProtocolError if it is none."""
        known = {each.name for each in fields(cls)}
        data = {key: value for key, value in document.items() if key in known}
        return cls(
            arch=_text(data, "arch"),
            os=_text(data, "os"),
            kernel=_text(data, "kernel"),
            cpu_model=_text(data, "cpu_model"),
            cores=_count(data, "cores", MAX_CORES),
            memory_bytes=_count(data, "memory_bytes", MAX_MEMORY_BYTES),
            cpu_flags=_texts(data, "cpu_flags"),
            device_tree_model=_maybe(data, "device_tree_model"),
            device_tree_compatible=_texts(data, "device_tree_compatible"),
            l4t_release=_maybe(data, "l4t_release"),
            gpu_name=_maybe(data, "gpu_name"),
            gpu_memory_bytes=_maybe_count(data, "gpu_memory_bytes", MAX_MEMORY_BYTES),
            compute_capability=_maybe(data, "compute_capability"),
            driver_version=_maybe(data, "driver_version"),
            python_version=_maybe(data, "python_version"),
            engines=_engines(data),
        )


def _refused(why: str) -> ProtocolError:
    return ProtocolError("the fingerprint is refused", why=why)


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _checked(value: object, key: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        raise _refused(f"{key} must be printable text of at most {MAX_TEXT} characters")
    return value


def _text(data: Mapping[str, object], key: str) -> str:
    value = _checked(data.get(key), key)
    if not value:
        raise _refused(f"{key} is empty")
    return value


def _maybe(data: Mapping[str, object], key: str) -> str | None:
    return None if data.get(key) is None else _text(data, key)


def _texts(data: Mapping[str, object], key: str) -> tuple[str, ...]:
    value = data.get(key, [])
    if not isinstance(value, list) or len(value) > MAX_ITEMS:
        raise _refused(f"{key} must be a list of at most {MAX_ITEMS}")
    return tuple(_checked(item, key) for item in value)


def _count(data: Mapping[str, object], key: str, high: int) -> int:
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= high:
        raise _refused(f"{key} must be a whole number between 1 and {high}")
    return value


def _maybe_count(data: Mapping[str, object], key: str, high: int) -> int | None:
    return None if data.get(key) is None else _count(data, key, high)


def _engines(data: Mapping[str, object]) -> dict[str, str]:
    value = data.get("engines", {})
    if not isinstance(value, dict) or len(value) > MAX_ITEMS:
        raise _refused(f"engines must be an object of at most {MAX_ITEMS}")
    return {
        _checked(name, "engines"): _checked(version, f"engines.{name}")
        for name, version in value.items()
    }
