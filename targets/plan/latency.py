"""Time from a roofline: prompts by the rate of products, tokens by the bandwidth of memory.

Williams, Waterman and Patterson, Roofline (CACM 2009): what takes longer of the two decides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgeward.targets.calibration import PROMPT_ROWS
from edgeward.targets.profile import Hardware

from .engines import ACHIEVED, KERNELS, EngineCost
from .facts import ModelFacts
from .kernels import Kernel
from .memory import cache_bytes, written_bytes
from .moved import moved_numbers
from .packed import attention_s, calls_of
from .packing import Packing, SlotShares
from .precision import Weights
from .reads import beyond, read_a_step
from .roles import kind_of, tower_of

# Outputs, inputs, steps in time.
_SLIDING = 3
# The rates that a unit without one of its own for a type computes in, the first that it has.
_RATES: Mapping[str, tuple[str, ...]] = {
    "fp32": ("fp32",),
    "fp16": ("fp16", "bf16", "fp32"),
    "bf16": ("bf16", "fp16", "fp32"),
    "fp8": ("fp8", "fp16", "bf16", "fp32"),
    "int8": ("int8", "fp16", "bf16", "fp32"),
    "fp4": ("fp4", "fp8", "fp16", "bf16", "fp32"),
}
# A processor's half-precision instructions (FEAT_FP16) do not take bfloat16 (FEAT_BF16): without
# those it becomes float32. Arm Architecture Reference Manual, DDI 0487, A2.
_ON_A_CPU: Mapping[str, tuple[str, ...]] = {"bf16": ("bf16", "fp32")}


# Between which sizes of a cache an engine's attention is timed (`Reached`): one layer's and all.
_HELD_CACHE, _FAR_CACHE = 2 << 20, 12 << 20


@dataclass(frozen=True, slots=True)
class Speed:
    """What a unit reaches: bytes and operations a second, seconds a layer and step beside them.

    `float_operations_per_s` is what a prompt's attention reaches: its operands are no weights, they
    stay floats where those are rounded. `token_operations_per_s` and `attention_operations_per_s`
    are what one token's products and its attention over the cache reach, infinite where the
    memory alone decides; that attention comes beside reading the cache, at `cache` of the
    bandwidth, or by `slots` where an engine goes through all of them. `in_turn` says that a
    prompt's weights are not read behind its products: on GPUs the sum of both is nearer to what is
    published than the longer one (benchmarks/plan/published.toml); `one_by_one` that operators
    follow each other, as on a processor. Weights beyond `on_chip` bytes come over a link of
    `link_bytes_per_s` before they are multiplied. `packing` are the habits of an engine of graphs
    of fixed shapes.
    `moved_bytes` is what each number counts that operators between a prompt's products write
    (`moved.py`), `compares` by a model's kind the share of the float rate that a prompt's attention
    reaches. `rows` is how many rows of a product reach `operations_per_s`, where fewer take longer.
    `rewrites` says that each step behind an encoder writes its cache anew. What an encoder gave is
    the same for a whole text: products with it reach `crossing_operations_per_s`, as with weights
    in floats, and the longer of computing and reading decides. `beyond` is the share of a token's
    weights that come from memory, `attention_held_per_s` and `cache_held` are attention's where a
    cache is small enough for a processor's own.
    """

    bytes_per_s: float
    operations_per_s: float
    float_operations_per_s: float
    layer_s: float
    token_operations_per_s: float = math.inf
    attention_operations_per_s: float = math.inf
    cache: float | None = None
    slots: SlotShares | None = None
    in_turn: bool = False
    one_by_one: bool = False
    on_chip: int = 0
    link_bytes_per_s: float = math.inf
    packing: Packing | None = None
    moved_bytes: float = 0.0
    compares: Mapping[str, float] | None = None
    rows: int = 1
    rewrites: bool = False
    crossing_operations_per_s: float = math.inf
    beyond: float = 1.0
    attention_held_per_s: float = math.inf
    cache_held: float | None = None

    def products_s(self, operations: float, rows: float) -> float:
        """Return the seconds of products of so many rows: between one row's and a prompt's."""
        full = operations / self.operations_per_s
        if rows >= self.rows or math.isinf(self.token_operations_per_s):
            return full
        one = operations / rows / self.token_operations_per_s
        return one + (full / rows * self.rows - one) * (rows - 1) / (self.rows - 1)

    def compared_per_s(self, kind: str) -> float:
        """What the attention of a prompt reaches in a model of this kind."""
        return self.float_operations_per_s * (self.compares or {}).get(kind, 1.0)


def speed_of(
    hardware: Hardware, unit: str, engine: EngineCost, multiplies: str, kernel: Kernel
) -> Speed | None:
    """Return what a kind of unit reaches, None where its rate is unknown."""
    rate = _rate(hardware, unit, multiplies)
    if rate is None:
        return None
    bandwidth_share, compute_share = ACHIEVED[unit]
    if engine.matrix and _has_matrix_unit(hardware, unit):
        compute_share = engine.matrix
    said = hardware.achieved
    apart = hardware.cores_apart if unit == "npu" else 1
    on_processor = unit == "cpu"
    compute = said.get("compute", compute_share) / apart
    return Speed(
        bytes_per_s=hardware.memory_bandwidth_bytes_per_s
        / apart
        * said.get("bandwidth", bandwidth_share),
        operations_per_s=rate * compute * (kernel.prompt if on_processor else 1),
        float_operations_per_s=_in_floats(hardware, unit, multiplies, rate) * compute,
        layer_s=_layer_s(engine, unit, kernel),
        token_operations_per_s=_share(hardware, unit, kernel.token),
        attention_operations_per_s=_share(hardware, unit, kernel.attention or engine.attention),
        cache=kernel.cache if on_processor else None,
        slots=kernel.slots if on_processor else None,
        in_turn=unit == "gpu",
        one_by_one=on_processor,
        on_chip=engine.on_chip,
        link_bytes_per_s=engine.link or math.inf,
        packing=engine.packing if on_processor else None,
        moved_bytes=engine.moved_bytes if on_processor and kernel.alone else 0.0,
        compares=engine.compares if on_processor and kernel.alone else None,
        rows=PROMPT_ROWS if on_processor and kernel.alone else 1,
        rewrites=on_processor and bool(engine.first_room),
        crossing_operations_per_s=_share(hardware, unit, kernel.floats),
        beyond=kernel.beyond if on_processor else 1.0,
        attention_held_per_s=_share(hardware, unit, kernel.attention_held),
        cache_held=kernel.cache_held if on_processor else None,
    )


def _layer_s(engine: EngineCost, unit: str, kernel: Kernel) -> float:
    """What a layer costs beside its products, nothing where whole layers were measured."""
    if unit != "cpu":
        return (engine.layer_s or {}).get(unit, 0.0)
    return 0.0 if kernel.whole else (engine.layer_s or {}).get(unit, 0.0) + kernel.layer_s


def _has_matrix_unit(hardware: Hardware, unit: str) -> bool:
    """Say whether half precision is faster by more than its width: Tensor cores and their like."""
    half, single = hardware.rate("fp16", (unit,)), hardware.rate("fp32", (unit,))
    return unit == "gpu" and half is not None and single is not None and half > 2 * single


def _share(hardware: Hardware, unit: str, share: float) -> float:
    """A share of the processor's float rate, infinite where none is known."""
    rate = _rate(hardware, unit, "fp32") if unit == "cpu" and share else None
    if rate is None:
        return math.inf
    return rate * hardware.achieved.get("compute", ACHIEVED[unit][1]) * share


def _rate(hardware: Hardware, unit: str, multiplies: str) -> int | None:
    names = _ON_A_CPU.get(multiplies, _RATES[multiplies]) if unit == "cpu" else _RATES[multiplies]
    rates = (hardware.rate(name, (unit,)) for name in names)
    return next((rate for rate in rates if rate is not None), None)


def _in_floats(hardware: Hardware, unit: str, multiplies: str, rate: int) -> int:
    """The rate of 16-bit floats, float32's on a processor, where weights are multiplied in less."""
    if multiplies not in ("int8", "fp8", "fp4"):
        return rate
    return _rate(hardware, unit, "fp32" if unit == "cpu" else "fp16") or rate


def prompt_s(
    facts: ModelFacts, weights: Weights, speed: Speed, tokens: int, batch: int, context: int = 0
) -> float:
    """Return seconds until the first token, or until an encoder's answer.

    `context` is the cache's length, which engines of graphs of fixed shapes always go through.
    """
    if speed.packing is not None and facts.writes_text:
        return batch * _prompt_in_calls(facts, weights, speed, speed.packing, tokens, context)
    read = weights.read + batch * tokens * facts.hidden * 4
    layers: float = facts.layers
    if facts.kind == "encoder-decoder":
        layers += facts.encoder_layers
    elif facts.works:
        layers = facts.operators / KERNELS
    products = batch * _products_s(facts, weights, speed, tokens)
    reading = read / speed.bytes_per_s
    steady = products + reading if speed.in_turn else max(products, reading)
    fetched = max(0, weights.read - speed.on_chip) / speed.link_bytes_per_s
    return steady + fetched + layers * speed.layer_s


def _products_s(facts: ModelFacts, weights: Weights, speed: Speed, tokens: int) -> float:
    """Seconds of one input's products; operator by operator where they were gone through.

    What moves more than it multiplies takes the memory's time, as nothing runs beside it on a
    processor; elsewhere it is folded into the product before it.
    """
    if not facts.works:
        rows = _own_rows(facts, tokens)
        weighed, compared = _operations(facts, rows)
        seen, looked = _encoder_operations(facts, tokens)
        moved = speed.moved_bytes * moved_numbers(facts, tokens) / speed.bytes_per_s
        computed = speed.products_s(weighed, rows)
        computed += speed.products_s(seen, facts.encoder_tokens or tokens)
        return computed + (compared + looked) / speed.compared_per_s(facts.kind) + moved
    # A number that is written was read as well: two of those that a work counts.
    moving = max(4.0, speed.moved_bytes / 2) / speed.bytes_per_s if speed.one_by_one else 0.0
    total = 0.0
    for work in facts.works:
        floats = work.compared + (work.convolved if weights.float_convolutions else 0)
        others = work.weighed - (work.convolved if weights.float_convolutions else 0)
        computed = others / speed.operations_per_s + floats / speed.float_operations_per_s
        total += max(computed, work.moved * moving)
    return total


def _prompt_in_calls(
    facts: ModelFacts, weights: Weights, speed: Speed, packing: Packing, tokens: int, context: int
) -> float:
    """A prompt in pieces of one size: the head for each token, attention to every slot."""
    calls, piece = calls_of(packing, facts, tokens, context)
    compared = 4.0 * facts.layers * facts.hidden * piece * (context + facts.encoder_tokens)
    products = (
        piece * _token_products(facts) / speed.operations_per_s
        + compared / speed.float_operations_per_s
    )
    each = max(products, weights.read / speed.bytes_per_s) + facts.layers * speed.layer_s
    moved = attention_s(packing, facts, context, 1, speed.bytes_per_s, speed.slots)
    if speed.slots is not None:
        scores = facts.layers * facts.heads * piece * (context + facts.encoder_tokens)
        moved += packing.scored * scores / speed.bytes_per_s
    seen, looked = _encoder_operations(facts, tokens)
    heard = seen / speed.operations_per_s + looked / speed.float_operations_per_s
    return calls * (each + moved) + heard


def token_s(
    facts: ModelFacts,
    weights: Weights,
    speed: Speed,
    *,
    context: int,
    sequences: int,
    cache_bits: float,
) -> float:
    """Return seconds a step in which each of `sequences` gets one token, `context` behind it."""
    read = speed.beyond * read_a_step(facts, weights, sequences) / speed.bytes_per_s
    products = sequences * _token_products(facts)
    cached = cache_bytes(facts, context, sequences, cache_bits) / speed.bytes_per_s
    if speed.rewrites and facts.kind == "encoder-decoder":
        cached += 2 * written_bytes(facts, context, sequences, cache_bits) / speed.bytes_per_s
    attention = sequences * _token_attention(facts, context)
    crossing = 2.0 * sequences * facts.cross_width * (facts.encoder_tokens or context)
    if speed.packing is not None:
        cached = attention_s(
            speed.packing, facts, context, sequences, speed.bytes_per_s, speed.slots
        )
    once = products / sequences / speed.token_operations_per_s
    looking = max(cached, (attention + crossing) / speed.operations_per_s)
    if math.isfinite(speed.attention_operations_per_s):
        read_back = crossing * cache_bits / 16 / speed.bytes_per_s
        looking = _looking_s(speed, attention, cached)
        looking += max(0.0, crossing / speed.crossing_operations_per_s - read_back)
    return (
        max(read, products / speed.operations_per_s, once) + looking + facts.layers * speed.layer_s
    )


def _looking_s(speed: Speed, attention: float, cached: float) -> float:
    """Seconds of a token's attention, `cached` those of its cache at the whole bandwidth."""
    far = cached / (speed.cache or 1.0) + attention / speed.attention_operations_per_s
    if math.isinf(speed.attention_held_per_s):
        return far
    near = cached / (speed.cache_held or 1.0) + attention / speed.attention_held_per_s
    return near + (far - near) * beyond(cached * speed.bytes_per_s, _HELD_CACHE, _FAR_CACHE)


def _multiplied(facts: ModelFacts, tower: str) -> int:
    """Parameters of a tower that every token is multiplied with: no tables, no head."""
    total = 0
    for tensor in facts.tensors:
        kind = kind_of(tensor.name)
        if tower_of(tensor.name, facts.kind) != tower or kind in ("head", "embedding"):
            continue
        share = facts.active_experts / facts.experts if kind == "experts" else 1
        total += int(tensor.count * share)
    return total


def _head(facts: ModelFacts) -> int:
    return facts.vocabulary * facts.hidden if facts.writes_text else 0


def _token_products(facts: ModelFacts) -> float:
    return 2.0 * (_multiplied(facts, "decoder") - _crossing(facts) + _head(facts))


def _crossing(facts: ModelFacts) -> int:
    """Parameters that make what a decoder keeps of its encoder's tokens, once for each of them."""
    return facts.cross_width * facts.encoder_hidden


def _token_attention(facts: ModelFacts, context: int) -> float:
    """Each number that a decoder cached is multiplied once for every head that shares it."""
    grouped = facts.heads / max(1, facts.kv_heads)
    return 2 * sum(layer.numbers(context) for layer in facts.cache) * grouped


def _own_rows(facts: ModelFacts, tokens: int) -> int:
    """Behind a text that an encoder reads, one token begins what is written."""
    return 1 if facts.kind == "encoder-decoder" and not facts.encoder_tokens else tokens


def _operations(facts: ModelFacts, rows: int) -> tuple[float, float]:
    """Operations of so many tokens: with weights, and of attention over what came before."""
    main = {"encoder": "encoder", "vision": "vision"}.get(facts.kind, "decoder")
    attention = 4.0 * facts.layers * facts.hidden * rows * rows
    if facts.kind == "decoder":
        attention /= 2
    total = 2.0 * (_multiplied(facts, main) - _crossing(facts)) * rows + 2 * _head(facts)
    return total, attention


def _encoder_operations(facts: ModelFacts, tokens: int) -> tuple[float, float]:
    """Operations of what a decoder looks back at, nothing where it stands alone."""
    if facts.kind != "encoder-decoder":
        return 0.0, 0.0
    seen = facts.encoder_tokens or tokens
    attention = 4.0 * facts.encoder_layers * facts.encoder_hidden * seen * seen
    multiplied = _multiplied(facts, "encoder") + _sliding(facts) + _crossing(facts)
    return 2.0 * multiplied * seen, attention


def _sliding(facts: ModelFacts) -> int:
    """Parameters of the convolutions that a sound goes through before its encoder's layers."""
    return sum(
        tensor.count
        for tensor in facts.tensors
        if len(tensor.shape) == _SLIDING and tower_of(tensor.name, facts.kind) == "encoder"
    )
