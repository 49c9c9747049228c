"""A checked and merged document becomes a `Profile`: what is missing, what contradicts itself.

Rules without I/O. The document's values are already in the profile's units (see `schema`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from .locate import Key
from .profile import (
    Engine,
    Gate,
    Hardware,
    Limits,
    MatchRules,
    PowerMode,
    Price,
    Profile,
    Reached,
    Recipe,
    Shapes,
    Unit,
)
from .schema import Bad

DEFAULT_MAX_TEMPERATURE_C = 85.0

_T = TypeVar("_T")


class Section:
    """A table of the document, read by key and type; a missing key is `Bad` with its whole path."""

    def __init__(self, data: Mapping[str, object], key: Key = ()) -> None:
        self._data = data
        self.key = key

    def need(self, name: str, kind: type[_T]) -> _T:
        """Return a value that must be there."""
        found = self.get(name, kind)
        if found is None:
            raise Bad((*self.key, name), "is missing")
        return found

    def get(self, name: str, kind: type[_T]) -> _T | None:
        """Return a value, or None where it is not given."""
        value = self._data.get(name)
        if value is None or isinstance(value, kind):
            return value
        raise Bad((*self.key, name), f"is {type(value).__name__}, not {kind.__name__}")

    def section(self, name: str) -> Section:
        """Return a table, empty where it is not given."""
        return Section(self.get(name, dict) or {}, (*self.key, name))

    def sections(self, name: str) -> list[Section]:
        """Return the tables of an array of tables."""
        rows = self.get(name, list) or []
        return [Section(row, (*self.key, name, str(index))) for index, row in enumerate(rows)]

    def words(self, name: str) -> tuple[str, ...]:
        """Return an array of text as a tuple, empty where it is not given."""
        return tuple(str(word) for word in self.get(name, list) or [])

    def names(self) -> list[str]:
        """Return the table's keys in their order."""
        return list(self._data)


def build(name: str, document: Mapping[str, object]) -> Profile:
    """Return the profile that a merged document describes; `Bad` names the key that is wrong."""
    top = Section(document)
    hardware = _hardware(top.section("hardware"))
    formats = {each: top.section("formats").words(each) for each in top.section("formats").names()}
    profile = Profile(
        name=name,
        title=top.need("title", str),
        description=top.get("description", str) or "",
        extends=top.get("extends", str),
        hardware=hardware,
        engines=tuple(_engine(row) for row in top.sections("engines")),
        formats=formats,
        default=_recipe(top.section("default")),
        otherwise=_otherwise(top.section("default").section("otherwise")),
        shapes=_shapes(top.section("shapes")),
        limits=Limits(
            opset_max=top.section("limits").get("opset_max", int),
            ir_max=top.section("limits").get("ir_max", int),
        ),
        container_image=top.section("container").get("image", str),
        power_modes=tuple(_power_mode(row) for row in top.sections("power_modes")),
        gate=_gate(top.section("gate"), hardware),
        match=_match(top.section("match"), hardware),
        sources={
            key: top.section("sources").need(key, str) for key in top.section("sources").names()
        },
        price=_price(top.section("price")),
    )
    _check(profile)
    return profile


def _hardware(section: Section) -> Hardware:
    units = section.section("units")
    return Hardware(
        arch=section.need("arch", str),
        cores=section.need("cores", int),
        memory_bytes=section.need("memory", int),
        usable_memory_bytes=section.need("usable_memory", int),
        memory_bandwidth_bytes_per_s=section.need("memory_bandwidth", int),
        disk_bytes=section.get("disk", int),
        core_memory_bytes=section.get("core_memory", int),
        unified=section.get("unified", bool) or False,
        watts=section.get("watts", float),
        achieved=_shares(section.section("achieved")),
        kernels={
            name: _reached(section.section("kernels").section(name))
            for name in section.section("kernels").names()
        },
        units=tuple(_unit(name, units.section(name)) for name in units.names()),
    )


def _reached(section: Section) -> Reached:
    return Reached(
        attention=section.get("attention", float),
        token=_shares(section.section("token")),
        prompt=_shares(section.section("prompt")),
        cache=section.get("cache", float),
        near=section.get("near", float),
        written=section.get("written", float),
        held=_shares(section.section("held")),
        attention_held=section.get("attention_held", float),
        cache_held=section.get("cache_held", float),
    )


def _shares(section: Section) -> Mapping[str, float]:
    return {name: section.need(name, float) for name in section.names()}


def _unit(name: str, section: Section) -> Unit:
    rates = section.section("rates")
    return Unit(
        name=name,
        kind=section.need("kind", str),
        title=section.get("title", str) or name,
        rates={dtype: rates.need(dtype, int) for dtype in rates.names()},
    )


def _engine(section: Section) -> Engine:
    only = section.section("only")
    return Engine(
        name=section.need("name", str),
        version=section.need("version", str),
        python=section.get("python", str),
        providers=section.words("providers"),
        only={precision: only.words(precision) for precision in only.names()},
        builds=section.words("builds"),
    )


def _recipe(section: Section) -> Recipe:
    return Recipe(format=section.need("format", str), precision=section.need("precision", str))


def _otherwise(section: Section) -> Recipe | None:
    return _recipe(section) if section.names() else None


def _shapes(section: Section) -> Shapes:
    allowed = section.section("allowed")
    sizes = {
        dimension: tuple(int(size) for size in allowed.need(dimension, list))
        for dimension in allowed.names()
    }
    return Shapes(mode=section.get("mode", str) or "dynamic", allowed=sizes)


def _price(section: Section) -> Price | None:
    if not section.names():
        return None
    return Price(
        usd_per_hour=section.need("usd_per_hour", float),
        region=section.need("region", str),
        as_of=section.need("as_of", str),
    )


def _power_mode(section: Section) -> PowerMode:
    return PowerMode(name=section.need("name", str), watts=section.get("watts", float))


def _gate(section: Section, hardware: Hardware) -> Gate:
    return Gate(
        max_temperature_c=section.get("max_temperature_c", float) or DEFAULT_MAX_TEMPERATURE_C,
        max_memory_bytes=section.get("max_memory", int) or hardware.usable_memory_bytes,
        max_latency_ms=section.get("max_latency_ms", float),
        max_latency_ratio=section.get("max_latency_ratio", float),
    )


def _match(section: Section, hardware: Hardware) -> MatchRules:
    return MatchRules(
        arch=hardware.arch,
        device_tree=section.words("device_tree"),
        gpu=section.words("gpu"),
        l4t=section.get("l4t", str),
        compute_capability=section.get("compute_capability", str),
        cpu_flags=section.words("cpu_flags"),
        memory_min_bytes=section.get("memory_min", int),
        memory_max_bytes=section.get("memory_max", int),
        priority=section.get("priority", int) or 0,
    )


def _check(profile: Profile) -> None:
    hardware, match = profile.hardware, profile.match
    if hardware.usable_memory_bytes > hardware.memory_bytes:
        raise Bad(("hardware", "usable_memory"), "is more than hardware.memory")
    if (hardware.core_memory_bytes or 0) > hardware.memory_bytes:
        raise Bad(("hardware", "core_memory"), "is more than hardware.memory")
    if profile.gate.max_memory_bytes > hardware.memory_bytes:
        raise Bad(("gate", "max_memory"), "is more than hardware.memory")
    if not hardware.units:
        raise Bad(("hardware", "units"), "must name at least one compute unit")
    if not profile.engines:
        raise Bad(("engines",), "must name at least one engine")
    low, high = match.memory_min_bytes, match.memory_max_bytes
    if low is not None and high is not None and low > high:
        raise Bad(("match", "memory_min"), "is more than match.memory_max")
    _check_recipes(profile)
    _check_shapes(profile.shapes)


def _check_recipes(profile: Profile) -> None:
    _check_recipe(profile, profile.default, ("default",))
    if profile.otherwise is not None:
        _check_recipe(profile, profile.otherwise, ("default", "otherwise"))
    known = {precision for precisions in profile.formats.values() for precision in precisions}
    for index, engine in enumerate(profile.engines):
        for precision in engine.builds:
            if precision not in known:
                place = ("engines", str(index), "builds")
                raise Bad(place, f"names a precision that no format allows: {precision}")
        for precision, providers in engine.only.items():
            key = ("engines", str(index), "only", precision)
            if precision not in known:
                raise Bad(key, "is a precision that no format allows")
            if not set(providers) <= set(engine.providers):
                raise Bad(key, "names a provider that the engine does not list")


def _check_recipe(profile: Profile, recipe: Recipe, key: Key) -> None:
    allowed = profile.formats.get(recipe.format)
    if allowed is None:
        raise Bad((*key, "format"), f"is not in formats: {', '.join(profile.formats)}")
    if recipe.precision not in allowed:
        raise Bad((*key, "precision"), f"is not one of {', '.join(allowed)}")


def _check_shapes(shapes: Shapes) -> None:
    if (shapes.mode == "dynamic") == bool(shapes.allowed):
        want = "no sizes" if shapes.mode == "dynamic" else "sizes for at least one dimension"
        raise Bad(("shapes", "allowed"), f"must give {want} where shapes.mode is {shapes.mode}")
    for dimension, sizes in shapes.allowed.items():
        if shapes.mode == "static" and len(sizes) != 1:
            raise Bad(("shapes", "allowed", dimension), "must give one size: shapes are static")
