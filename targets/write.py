"""Write profiles as TOML that loads again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from .profile import Engine, Profile
from .units import format_bandwidth, format_rate, format_size

Value = object


def to_toml(profile: Profile) -> str:
    """Return a profile as TOML with its inheritance resolved.

    Saved under the profile's name it loads to the same content and digest.
    """
    document = _document(profile)
    return f"# {profile.name}, with what it extends resolved\n{render(document)}"


def render(document: Mapping[str, Value]) -> str:
    """Return a document as TOML; None and empty values are left out."""
    lines: list[str] = []
    _table(document, (), lines)
    return "\n".join(lines).strip() + "\n"


def _document(profile: Profile) -> dict[str, Value]:
    hardware, gate, rules = profile.hardware, profile.gate, profile.match
    return {
        "title": profile.title,
        "description": profile.description,
        "hardware": {
            "arch": hardware.arch,
            "cores": hardware.cores,
            "memory": format_size(hardware.memory_bytes),
            "usable_memory": format_size(hardware.usable_memory_bytes),
            "memory_bandwidth": format_bandwidth(hardware.memory_bandwidth_bytes_per_s),
            "disk": _size(hardware.disk_bytes),
            "core_memory": _size(hardware.core_memory_bytes),
            "unified": hardware.unified or None,
            "watts": hardware.watts,
            "achieved": dict(hardware.achieved),
            "kernels": {name: asdict(reached) for name, reached in hardware.kernels.items()},
            "units": {
                unit.name: {
                    "kind": unit.kind,
                    "title": unit.title,
                    "rates": {dtype: format_rate(rate) for dtype, rate in unit.rates.items()},
                }
                for unit in hardware.units
            },
        },
        "engines": [_engine(engine) for engine in profile.engines],
        "formats": {name: list(precisions) for name, precisions in profile.formats.items()},
        "default": {
            **asdict(profile.default),
            "otherwise": asdict(profile.otherwise) if profile.otherwise else {},
        },
        "shapes": {
            "mode": profile.shapes.mode,
            "allowed": {name: list(sizes) for name, sizes in profile.shapes.allowed.items()},
        },
        "limits": {"opset_max": profile.limits.opset_max, "ir_max": profile.limits.ir_max},
        "container": {"image": profile.container_image},
        "power_modes": [{"name": mode.name, "watts": mode.watts} for mode in profile.power_modes],
        "price": asdict(profile.price) if profile.price else {},
        "gate": {
            "max_temperature_c": gate.max_temperature_c,
            "max_memory": format_size(gate.max_memory_bytes),
            "max_latency_ms": gate.max_latency_ms,
            "max_latency_ratio": gate.max_latency_ratio,
        },
        "match": {
            "device_tree": list(rules.device_tree),
            "gpu": list(rules.gpu),
            "l4t": rules.l4t,
            "compute_capability": rules.compute_capability,
            "cpu_flags": list(rules.cpu_flags),
            "memory_min": _size(rules.memory_min_bytes),
            "memory_max": _size(rules.memory_max_bytes),
            "priority": rules.priority,
        },
        "sources": dict(profile.sources),
    }


def _engine(engine: Engine) -> dict[str, Value]:
    return {
        "name": engine.name,
        "version": engine.version,
        "python": engine.python,
        "providers": list(engine.providers),
        "only": {precision: list(providers) for precision, providers in engine.only.items()},
        "builds": list(engine.builds),
    }


def _size(count: int | None) -> str | None:
    return None if count is None else format_size(count)


def _table(table: Mapping[str, Value], key: tuple[str, ...], lines: list[str]) -> None:
    kept = {name: value for name, value in table.items() if value not in (None, [], {}, "")}
    for name, value in kept.items():
        if not _is_nested(value):
            lines.append(f"{_key(name)} = {_scalar(value)}")
    for name, value in kept.items():
        path = (*key, name)
        if isinstance(value, Mapping):
            if not all(isinstance(item, Mapping) for item in value.values()):
                lines += ["", f"[{'.'.join(_key(part) for part in path)}]"]
            _table(value, path, lines)
        elif _is_nested(value) and isinstance(value, list):
            for item in value:
                lines += ["", f"[[{'.'.join(_key(part) for part in path)}]]"]
                _table(item, path, lines)


def _is_nested(value: Value) -> bool:
    rows = isinstance(value, list) and any(isinstance(item, Mapping) for item in value)
    return rows or isinstance(value, Mapping)


def _key(name: str) -> str:
    is_bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if is_bare else _scalar(name)


def _scalar(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL, which JSON leaves bare.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Sequence):
        return f"[{', '.join(_scalar(item) for item in value)}]"
    return repr(value)
