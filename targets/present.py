"""What `edgeward targets` shows: profiles as rows, and the probe with its remarks."""

from __future__ import annotations

from collections.abc import Iterator

from edgeward.errors import EdgewardError

from .derive import gpu_profile_from, measure_bandwidth, profile_from
from .fingerprint import Fingerprint
from .load import load, names
from .match import ranked
from .probe import probe
from .profile import Profile
from .units import about, format_bandwidth, format_rate, format_size

Row = dict[str, object]

LIST_COLUMNS = (
    "name",
    "title",
    "arch",
    "memory",
    "usable_memory",
    "memory_bandwidth",
    "engine",
    "default",
)
DIFF_COLUMNS = ("key", "one", "other")
SHOW_COLUMNS = ("key", "value", "source")


def list_rows(*, for_people: bool) -> tuple[list[Row], list[EdgewardError]]:
    """Return a row for each target, and the errors of the files that could not be read.

    Sizes are bytes and bytes per second, or text with a unit `for_people`.
    """
    tried = [_tried(name) for name in names()]
    profiles = [each for each in tried if isinstance(each, Profile)]
    broken = [each for each in tried if isinstance(each, EdgewardError)]
    return [_list_row(profile, for_people=for_people) for profile in profiles], broken


def show_rows(profile: Profile) -> list[Row]:
    """Return a profile's keys as its TOML names them, each with its value and source."""
    pairs = [*_pairs(profile), ("digest", profile.digest)]
    return [
        {"key": key, "value": value, "source": _source(profile, key)}
        for key, value in pairs
        if value not in (None, "", ())
    ]


def diff_rows(one: Profile, other: Profile) -> list[Row]:
    """Return the keys in which two profiles differ, with the value of each."""
    left, right = dict(_pairs(one)), dict(_pairs(other))
    keys = dict.fromkeys([*left, *right])
    return [
        {"key": key, "one": left.get(key), "other": right.get(key)}
        for key in keys
        if left.get(key) != right.get(key)
    ]


def probed(*, only_fingerprint: bool = False) -> tuple[str, str]:
    """Return this machine's profile (or fingerprint) as text, and a remark on what it resembles."""
    fingerprint = probe()
    if only_fingerprint:
        return fingerprint.to_json() + "\n", _resembles(fingerprint)
    gpu = next((each for each in _matching(fingerprint) if each.memory_is_the_gpus), None)
    if gpu is not None:
        return gpu_profile_from(fingerprint, gpu), _resembles(fingerprint)
    text = profile_from(fingerprint, bandwidth_bytes_per_s=measure_bandwidth())
    return text, _resembles(fingerprint)


def _resembles(fingerprint: Fingerprint) -> str:
    found = [profile.name for profile in _matching(fingerprint)]
    return f"matches: {', '.join(found) or 'no known target'}"


def _matching(fingerprint: Fingerprint) -> list[Profile]:
    tried = [_tried(name) for name in names()]
    profiles = [each for each in tried if isinstance(each, Profile)]
    return [profile for profile, _ in ranked(profiles, fingerprint)]


def _tried(name: str) -> Profile | EdgewardError:
    try:
        return load(name)
    except EdgewardError as error:
        return error


def _list_row(profile: Profile, *, for_people: bool) -> Row:
    hardware, engine = profile.hardware, profile.engines[0]
    memory: object = hardware.memory_bytes
    usable: object = hardware.usable_memory_bytes
    bandwidth: object = hardware.memory_bandwidth_bytes_per_s
    if for_people:
        memory = about(hardware.memory_bytes)
        usable = about(hardware.usable_memory_bytes)
        bandwidth = format_bandwidth(hardware.memory_bandwidth_bytes_per_s)
    return {
        "name": profile.name,
        "title": profile.title,
        "arch": hardware.arch,
        "memory": memory,
        "usable_memory": usable,
        "memory_bandwidth": bandwidth,
        "engine": f"{engine.name} {engine.version}",
        "default": f"{profile.default.format} {profile.default.precision}",
    }


def _pairs(profile: Profile) -> Iterator[tuple[str, object]]:
    hardware, gate, rules = profile.hardware, profile.gate, profile.match
    yield "title", profile.title
    yield "description", profile.description
    yield "extends", profile.extends
    yield "hardware.arch", hardware.arch
    yield "hardware.cores", hardware.cores
    yield "hardware.memory", format_size(hardware.memory_bytes)
    yield "hardware.usable_memory", format_size(hardware.usable_memory_bytes)
    yield "hardware.memory_bandwidth", format_bandwidth(hardware.memory_bandwidth_bytes_per_s)
    if hardware.disk_bytes is not None:
        yield "hardware.disk", format_size(hardware.disk_bytes)
    if hardware.core_memory_bytes is not None:
        yield "hardware.core_memory", format_size(hardware.core_memory_bytes)
    yield "hardware.unified", hardware.unified or None
    yield "hardware.watts", hardware.watts
    for what, share in hardware.achieved.items():
        yield f"hardware.achieved.{what}", share
    for engine_name, reached in hardware.kernels.items():
        for name in ("attention", "attention_held", "cache", "cache_held", "near", "written"):
            yield f"hardware.kernels.{engine_name}.{name}", getattr(reached, name)
        told = {"token": reached.token, "held": reached.held, "prompt": reached.prompt}
        for what, shares in told.items():
            for precision, share in shares.items():
                yield f"hardware.kernels.{engine_name}.{what}.{precision}", share
    for unit in hardware.units:
        yield f"hardware.units.{unit.name}", f"{unit.kind}: {unit.title}"
        for dtype, rate in unit.rates.items():
            yield f"hardware.units.{unit.name}.rates.{dtype}", format_rate(rate)
    for engine in profile.engines:
        on = f" on {', '.join(engine.providers)}" if engine.providers else ""
        yield "engines", f"{engine.name} {engine.version}{on}"
        if engine.builds:
            yield f"engines.{engine.name}.builds", engine.builds
        for precision, providers in engine.only.items():
            yield f"engines.only.{precision}", providers
    for name, precisions in profile.formats.items():
        yield f"formats.{name}", precisions
    yield "default", f"{profile.default.format} {profile.default.precision}"
    if profile.otherwise is not None:
        yield "default.otherwise", f"{profile.otherwise.format} {profile.otherwise.precision}"
    yield "shapes.mode", profile.shapes.mode
    for dimension, sizes in profile.shapes.allowed.items():
        yield f"shapes.allowed.{dimension}", sizes
    yield "limits.opset_max", profile.limits.opset_max
    yield "limits.ir_max", profile.limits.ir_max
    yield "container.image", profile.container_image
    yield "power_modes", tuple(mode.name for mode in profile.power_modes)
    if profile.price is not None:
        price = profile.price
        yield "price.usd_per_hour", f"{price.usd_per_hour:g} ({price.region}, {price.as_of})"
    yield "gate.max_temperature_c", gate.max_temperature_c
    yield "gate.max_memory", format_size(gate.max_memory_bytes)
    yield "gate.max_latency_ms", gate.max_latency_ms
    yield "gate.max_latency_ratio", gate.max_latency_ratio
    yield "match.device_tree", rules.device_tree
    yield "match.gpu", rules.gpu
    yield "match.l4t", rules.l4t
    yield "match.compute_capability", rules.compute_capability
    yield "match.cpu_flags", rules.cpu_flags
    yield "match.priority", rules.priority


def _source(profile: Profile, key: str) -> str | None:
    parts = key.split(".")
    dotted = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((profile.sources[each] for each in dotted if each in profile.sources), None)
