"""A device profile: what a device is, what it runs, and what is allowed on it.

Pure data. Profiles are read from TOML by `edgeward.targets.load`, every number with its source.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from edgeward.errors import UnsupportedError

from .versions import satisfies

DTYPES = ("fp32", "fp16", "bf16", "fp8", "int8", "int4", "fp4")
UNIT_KINDS = ("cpu", "gpu", "npu")
SHAPE_MODES = ("dynamic", "static", "enumerated")
NOT_CONTENT = ("extends",)


@dataclass(frozen=True, slots=True)
class Unit:
    """A compute unit and its dense peak rates, dtype -> operations per second (1 MAC = 2)."""

    name: str
    kind: str
    title: str
    rates: Mapping[str, int] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Reached:
    """What an engine was measured to reach on the processor, as shares of a rate.

    `attention` is one token's over its cache and `token` one token's products, of the float32 rate;
    `prompt` a prompt's products, of the rate that its weights are multiplied at. Products are told
    by precision, for llama.cpp by the type of a tensor, as a file mixes several. `cache` is the
    share of the bandwidth that a token's attention reads the cache at. `held` is a token's products
    where all weights are as few as a processor's own caches may hold (16 MiB), `attention_held` and
    `cache_held` its attention over one layer's cache. An engine that goes through all slots of a
    cache does so where a layer's heads see 8 MiB, at `near` where they see 2, and writes it anew at
    `written`. What is None or not there was not measured.
    """

    attention: float | None = None
    token: Mapping[str, float] = field(default_factory=dict, hash=False)
    prompt: Mapping[str, float] = field(default_factory=dict, hash=False)
    cache: float | None = None
    near: float | None = None
    written: float | None = None
    held: Mapping[str, float] = field(default_factory=dict, hash=False)
    attention_held: float | None = None
    cache_held: float | None = None


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the device is made of; `usable_memory_bytes` is what the model and engine may take.

    `achieved` are the shares of the peak `bandwidth` and of the peak rates (`compute`) that an
    engine reaches, where they are known, `kernels` what engines by name were measured to reach. A
    `unified` memory is the processor's and the accelerator's; `core_memory_bytes` is what one of an
    accelerator's cores reaches, where a model on one core has no more.
    """

    arch: str
    cores: int
    memory_bytes: int
    usable_memory_bytes: int
    memory_bandwidth_bytes_per_s: int
    disk_bytes: int | None
    units: tuple[Unit, ...]
    achieved: Mapping[str, float] = field(default_factory=dict, hash=False)
    kernels: Mapping[str, Reached] = field(default_factory=dict, hash=False)
    unified: bool = False
    core_memory_bytes: int | None = None
    watts: float | None = None

    @property
    def room_bytes(self) -> int:
        """What a model on one core of the accelerator, or on the device, may take."""
        return min(self.usable_memory_bytes, self.core_memory_bytes or self.usable_memory_bytes)

    @property
    def cores_apart(self) -> int:
        """How many cores an accelerator has of which a model uses one: each has its own memory."""
        return max(1, round(self.memory_bytes / (self.core_memory_bytes or self.memory_bytes)))

    def rate(self, dtype: str, kinds: tuple[str, ...] = UNIT_KINDS) -> int | None:
        """Return the highest rate in operations per second for a dtype, or None if unknown."""
        rates = [unit.rates[dtype] for unit in self.units if self._has(unit, dtype, kinds)]
        return max(rates, default=None)

    @staticmethod
    def _has(unit: Unit, dtype: str, kinds: tuple[str, ...]) -> bool:
        return unit.kind in kinds and dtype in unit.rates


@dataclass(frozen=True, slots=True)
class Engine:
    """An inference engine on the device, its versions and its execution providers in order.

    `builds` are the precisions whose graphs it is built of on the device itself.
    """

    name: str
    version: str
    python: str | None
    providers: tuple[str, ...]
    only: Mapping[str, tuple[str, ...]] = field(hash=False)
    builds: tuple[str, ...] = ()

    def allows(self, version: str) -> bool:
        """Say whether an installed engine of this version will do; ValueError if it is none."""
        return satisfies(version, self.version)

    def allows_python(self, version: str) -> bool:
        """Say whether the device's Python will do; ValueError if it is no version."""
        return self.python is None or satisfies(version, self.python)

    def providers_for(self, precision: str) -> tuple[str, ...]:
        """Return the providers to ask for, in order, for an artifact of this precision."""
        return self.only.get(precision, self.providers)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A format and a precision."""

    format: str
    precision: str


@dataclass(frozen=True, slots=True)
class Shapes:
    """How shapes may vary; `allowed` names each dimension's sizes where they are enumerated."""

    mode: str
    allowed: Mapping[str, tuple[int, ...]] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Limits:
    """The newest ONNX operator set and IR version that the device's engine loads."""

    opset_max: int | None
    ir_max: int | None


@dataclass(frozen=True, slots=True)
class Price:
    """What an hour of a rented machine costs, where and when that was so; empty where unsaid."""

    usd_per_hour: float
    region: str
    as_of: str


@dataclass(frozen=True, slots=True)
class PowerMode:
    """A power mode by the vendor's name, with its budget where it has one."""

    name: str
    watts: float | None


@dataclass(frozen=True, slots=True)
class Gate:
    """What a bundle may cost on the device before it is activated there.

    `max_latency_ratio` bounds the device's p50 over the p50 measured when it was compiled.
    """

    max_temperature_c: float
    max_memory_bytes: int
    max_latency_ms: float | None
    max_latency_ratio: float | None


@dataclass(frozen=True, slots=True)
class MatchRules:
    """How a device of this kind is recognised from its fingerprint.

    Every rule that is given must hold. `device_tree` is a list of alternatives, each a part of the
    model or of a compatible string, `gpu` one of parts of the GPU's name. Of several that hold, the
    higher `priority` is taken.
    """

    arch: str
    device_tree: tuple[str, ...]
    gpu: tuple[str, ...]
    l4t: str | None
    compute_capability: str | None
    cpu_flags: tuple[str, ...]
    memory_min_bytes: int | None
    memory_max_bytes: int | None
    priority: int


@dataclass(frozen=True, slots=True)
class Profile:
    """One target, inheritance resolved.

    `default` is what a model is compiled to where nobody says, `otherwise` one that the default's
    format does not take.
    """

    name: str
    title: str
    description: str
    extends: str | None
    hardware: Hardware
    engines: tuple[Engine, ...]
    formats: Mapping[str, tuple[str, ...]] = field(hash=False)
    default: Recipe
    shapes: Shapes
    limits: Limits
    container_image: str | None
    power_modes: tuple[PowerMode, ...]
    gate: Gate
    match: MatchRules
    sources: Mapping[str, str] = field(hash=False)
    price: Price | None = None
    otherwise: Recipe | None = None

    @property
    def own_recipes(self) -> tuple[Recipe, ...]:
        """What a model is compiled to where nobody says: the first whose format takes it."""
        return (self.default, *([self.otherwise] if self.otherwise else []))

    @property
    def memory_is_the_gpus(self) -> bool:
        """Whether the target is a GPU with memory of its own, beside its machine's."""
        kinds = {unit.kind for unit in self.hardware.units}
        return kinds == {"gpu"} and not self.hardware.unified

    def to_dict(self) -> dict[str, object]:
        """Return the profile as plain JSON-ready data."""
        return asdict(self)

    @property
    def digest(self) -> str:
        """Return the sha256, in hex, of the resolved content (not of how it was inherited)."""
        content = {key: value for key, value in self.to_dict().items() if key not in NOT_CONTENT}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def check_engine(self, name: str | None) -> None:
        """Raise UnsupportedError, naming what there is, unless the target has this engine."""
        known = [engine.name for engine in self.engines]
        if name is not None and name not in known:
            raise UnsupportedError(
                f"{self.name} has no engine {name!r}",
                why=f"its engines are: {', '.join(known)}",
                next=f"edgeward targets show {self.name}",
            )

    def check_recipe(self, format: str, precision: str) -> None:  # noqa: A002 - the field's word
        """Raise UnsupportedError, naming what is allowed, unless the target takes this recipe."""
        if format not in self.formats:
            raise UnsupportedError(
                f"{self.name} does not take the format {format!r}",
                why=f"its formats are: {', '.join(self.formats)}",
                next=f"edgeward targets show {self.name}",
            )
        if precision not in self.formats[format]:
            raise UnsupportedError(
                f"{self.name} does not take the precision {precision!r} in {format}",
                why=f"its precisions in {format} are: {', '.join(self.formats[format])}",
                next=f"edgeward targets show {self.name}",
            )
