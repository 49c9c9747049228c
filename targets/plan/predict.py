"""The prediction: does a model fit a target in a precision, and how fast will it be.

Rules without I/O: facts come from `read`, profiles from `edgeward.targets.load`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from edgeward.errors import UnsupportedError
from edgeward.targets.profile import Engine, Price, Profile, Recipe

from . import latency
from .engines import EngineCost, cost_of
from .facts import ModelFacts
from .ggml import features_of
from .kernels import Kernel, kernel_of, measured_kernels
from .memory import Memory, cache_bytes, memory_of, sums_widen
from .packed import computed
from .precision import CACHE_BITS, Weights, loaded
from .units_of import unit_of

DEFAULT_CONTEXT = 4096
DEFAULT_PROMPT = 512
DEFAULT_ENCODER_TOKENS = 128
# What tells a transcriber its language and task: its prompt is the sound.
START_TOKENS = 4
# A bundle holds more than weights: graph, tokenizer, configuration, golden inputs.
BUNDLE_EXTRA = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Prediction:
    """Memory in bytes and times in seconds of one model on one target in one recipe and engine.

    Times are None where the unit's rate or the model's arithmetic is unknown; `tpot_s` also where
    nothing is written token by token. `users` is how many sequences of `context` tokens fit,
    `tokens_per_s` what all of `sequences` get together (inputs a second, where no text is
    written), `tokens_per_dollar` the same of an hour at `price`, all cores of the machine at work.
    `remedies` say what would make it fit.
    """

    model: str
    target: str
    format: str
    precision: str
    engine: str
    unit: str
    context: int
    batch: int
    sequences: int
    memory: Memory
    usable_bytes: int
    disk_bytes: int
    ttft_s: float | None
    tpot_s: float | None
    tokens_per_s: float | None
    users: int | None
    tokens_per_dollar: float | None
    price: Price | None
    fits: bool
    reason: str
    remedies: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return the prediction as plain JSON-ready data, the memory's total beside its parts."""
        return {**asdict(self), "total_bytes": self.memory.total}


def plan_model(
    facts: ModelFacts,
    profile: Profile,
    recipe: Recipe,
    context: int | None = None,
    batch: int = 1,
    concurrency: int = 1,
    *,
    engine: Engine | None = None,
    cache: str = "",
    prompt: int | None = None,
) -> Prediction:
    """Return what a model takes and how long it takes on a target, in a recipe.

    `context` is the tokens that each of `concurrency` sequences keeps, `batch` how many prompts are
    read at once, `prompt` the tokens of one (default 512, at most the context). `cache` is the type
    of the cache (`CACHE_BITS`), the engine's own where empty. Raises UnsupportedError for a
    precision of unknown size.
    """
    chosen = engine or engine_for(profile, recipe.format)
    length = context or default_context(facts)
    sequences = max(batch, concurrency)
    cost, unit = cost_of(chosen.name), unit_of(profile, chosen, recipe.precision)
    weights = loaded(facts, recipe, cost, unit)
    measured = measured_kernels(profile.hardware, chosen.name)
    kernel = kernel_of(recipe, facts, weights, measured)
    bits = CACHE_BITS[cache] if cache else weights.cache_bits
    memory = memory_of(
        facts,
        weights,
        cost,
        context=length,
        batch=batch,
        sequences=sequences,
        unit=unit,
        cache_bits=bits,
        widens_sums=sums_widen(profile.hardware),
        features=features_of(profile.hardware),
    )
    tokens = prompt or (START_TOKENS if facts.encoder_tokens else DEFAULT_PROMPT)
    load = _Load(length, min(tokens, length), batch, sequences, bits)
    times = (
        _Times()
        if (cost.unable or {}).get(facts.kind)
        else _times(facts, profile, weights, cost, unit, load, kernel, graphed=_is_graphed(chosen))
    )
    room = profile.hardware.room_bytes
    disk = weights.file + (0 if cost.in_place else BUNDLE_EXTRA)
    unable = (cost.unable or {}).get(facts.kind, "")
    reason = unable or _reason(profile, memory.total, disk, facts, length)
    return Prediction(
        model=facts.name,
        target=profile.name,
        format=recipe.format,
        precision=recipe.precision,
        engine=chosen.name,
        unit=unit,
        context=length,
        batch=batch,
        sequences=sequences,
        memory=memory,
        usable_bytes=room,
        disk_bytes=disk,
        ttft_s=times.first,
        tpot_s=times.each,
        tokens_per_s=times.throughput,
        users=_users(facts, memory, room, length, bits),
        tokens_per_dollar=_per_dollar(times.throughput, profile),
        price=profile.price,
        fits=not reason,
        reason=reason,
    )


def fits(
    facts: ModelFacts,
    precision: str,
    context: int,
    budget_bytes: int,
    *,
    format_name: str = "onnx",
    engine: str = "",
    unit: str = "cpu",
) -> bool:
    """Say whether one sequence of `context` tokens fits a budget; cheap, for searches.

    Raises UnsupportedError for a precision of unknown size.
    """
    return needed_bytes(facts, format_name, precision, context, engine, unit) <= budget_bytes


def needed_bytes(
    facts: ModelFacts,
    format_name: str,
    precision: str,
    context: int,
    engine: str = "",
    unit: str = "cpu",
) -> int:
    """Return the bytes that one sequence of `context` tokens takes, all parts together."""
    defaults = {"onnx": "onnxruntime", "gguf": "llama", "compressed": "vllm"}
    cost = cost_of(engine or defaults.get(format_name, ""))
    weights = loaded(facts, Recipe(format_name, precision), cost, unit)
    return memory_of(
        facts,
        weights,
        cost,
        context=context,
        batch=1,
        sequences=1,
        unit=unit,
        cache_bits=weights.cache_bits,
    ).total


def default_context(facts: ModelFacts) -> int:
    """Return the tokens to plan for: 4096, or all that a shorter model takes."""
    if facts.kind == "vision":
        return facts.encoder_tokens
    if facts.kind == "encoder":
        return min(DEFAULT_ENCODER_TOKENS, facts.max_context or DEFAULT_ENCODER_TOKENS)
    return min(DEFAULT_CONTEXT, facts.max_context or DEFAULT_CONTEXT)


def engine_for(profile: Profile, format_name: str) -> Engine:
    """Return the target's first engine for a format; UnsupportedError where it has none."""
    for engine in profile.engines:
        if format_name in cost_of(engine.name).formats:
            return engine
    raise UnsupportedError(
        f"{profile.name} has no engine for {format_name}",
        why=f"its engines are: {', '.join(engine.name for engine in profile.engines)}",
        next=f"edgeward targets show {profile.name}",
    )


def recipes_of(profile: Profile) -> Iterator[tuple[Recipe, Engine]]:
    """Give every recipe that a profile allows with each engine that runs it there."""
    for format_name, precisions in profile.formats.items():
        for precision in precisions:
            for engine in profile.engines:
                if format_name not in cost_of(engine.name).formats:
                    continue
                if engine.builds and precision not in engine.builds:
                    continue
                yield Recipe(format_name, precision), engine


@dataclass(frozen=True, slots=True)
class _Load:
    """What is asked of the model."""

    context: int
    prompt: int
    batch: int
    sequences: int
    cache_bits: float


def _is_graphed(engine: Engine) -> bool:
    return engine.providers[:1] == ("CUDA",)


@dataclass(frozen=True, slots=True)
class _Times:
    """Seconds to the first token and for each that follows, and a rate."""

    first: float | None = None
    each: float | None = None
    throughput: float | None = None


def _times(
    facts: ModelFacts,
    profile: Profile,
    weights: Weights,
    cost: EngineCost,
    unit: str,
    load: _Load,
    kernel: Kernel,
    *,
    graphed: bool,
) -> _Times:
    speed = latency.speed_of(profile.hardware, unit, cost, weights.multiplies, kernel)
    if speed is None or not facts.heads:
        return _Times()
    tokens = load.prompt if facts.writes_text else load.context
    if speed.packing is not None:
        weights = computed(facts, weights)
    first = latency.prompt_s(facts, weights, speed, tokens, load.batch, load.context)
    if not facts.writes_text:
        return _Times(first, None, load.batch / first)
    if graphed and cost.graphed_s and load.sequences == 1:
        speed = replace(speed, layer_s=cost.graphed_s)
    each = latency.token_s(
        facts,
        weights,
        speed,
        context=load.context,
        sequences=load.sequences,
        cache_bits=load.cache_bits,
    )
    return _Times(first, each, load.sequences / each)


def _users(facts: ModelFacts, memory: Memory, room: int, context: int, bits: float) -> int | None:
    one = cache_bytes(facts, context, 1, bits)
    if not one:
        return None
    return max(0, (room - (memory.total - memory.cache)) // one)


def _per_dollar(throughput: float | None, profile: Profile) -> float | None:
    if throughput is None or profile.price is None:
        return None
    together = throughput * profile.hardware.cores_apart
    return together * 3600 / profile.price.usd_per_hour


def _reason(profile: Profile, total: int, disk: int, facts: ModelFacts, context: int) -> str:
    """Why it does not fit, empty where it does."""
    hardware = profile.hardware
    room = hardware.room_bytes
    if facts.writes_text and facts.max_context and context > facts.max_context:
        return f"the model takes {facts.max_context} tokens at most"
    if total > room:
        return f"needs {_size(total)} of {_size(room)}"
    if hardware.disk_bytes is not None and disk > hardware.disk_bytes:
        return f"needs {_size(disk)} of {_size(hardware.disk_bytes)} of disk"
    return ""


def _size(count: int) -> str:
    """Bytes in the largest unit of which there is a tenth."""
    units = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
    size, unit = next((each for each in units if count >= each[0] / 10), units[-1])
    return f"{count / size:.3g} {unit}"
