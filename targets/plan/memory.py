"""Memory by part: weights, cache, activations, logits, engine; and training beside inference."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgeward.targets.profile import Hardware

from . import ggml
from .arena_layers import encoder_bytes, layers_bytes
from .engines import EngineCost
from .facts import ModelFacts
from .packed import activation_bytes, graph_bytes, piece_of, weights_bytes
from .packing import Packing
from .precision import Weights
from .roles import kind_of
from .tokenizer import kept_bytes

ADAM_BYTES = 16
LORA_RANK = 16


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes by part while the model serves."""

    weights: int
    cache: int
    activations: int
    logits: int
    engine: int

    @property
    def total(self) -> int:
        """All parts together."""
        return self.weights + self.cache + self.activations + self.logits + self.engine

    def parts(self) -> dict[str, int]:
        """Return the parts by name, the largest things first as people ask for them."""
        names = ("weights", "cache", "activations", "logits", "engine")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Training:
    """Bytes that training takes.

    `full` is mixed or single precision with Adam, `lora` adapters of rank 16 on a frozen bf16 model
    and `qlora` on a frozen 4-bit one, each with the activations of one batch.
    """

    full: int
    lora: int
    qlora: int
    activations: int
    adapter_parameters: int


def sums_widen(hardware: Hardware) -> bool:
    """Say whether an x86 processor lacks VNNI: 8-bit products are at most twice as fast there.

    Sums of pairs overflow there, so the engine widens them. Intel, Deep Learning Boost.
    """
    floats, bytes_ = (hardware.rate(name, ("cpu",)) for name in ("fp32", "int8"))
    return hardware.arch == "x86_64" and (bytes_ or 0) <= 2 * (floats or 0)


def cache_bytes(facts: ModelFacts, context: int, sequences: int, bits: float) -> int:
    """Return the bytes that `sequences` of `context` tokens keep, with what an encoder gave."""
    own = sum(layer.numbers(context) for layer in facts.cache)
    crossed = facts.cross_width * (facts.encoder_tokens or context)
    return int((own + crossed) * sequences * bits / 8)


def written_bytes(facts: ModelFacts, context: int, sequences: int, bits: float) -> int:
    """Return the bytes of the cache that a decoder writes, without what an encoder gave."""
    return cache_bytes(replace(facts, cross_width=0), context, sequences, bits)


def memory_of(
    facts: ModelFacts,
    weights: Weights,
    engine: EngineCost,
    *,
    context: int,
    batch: int,
    sequences: int,
    unit: str,
    cache_bits: float,
    widens_sums: bool = False,
    features: frozenset[str] = frozenset(),
) -> Memory:
    """Return what serving takes: `batch` prompts read at once, `sequences` kept.

    `widens_sums` says that the processor has no sums of four 8-bit products (`sums_widen`),
    `features` what llama.cpp finds of it (`ggml.features_of`).
    """
    if engine.ggml is not None and unit == "cpu":
        several = max(batch, sequences)
        return _of_ggml(facts, weights, engine, context, several, cache_bits, features)
    if engine.packing is not None and unit == "cpu":
        return _with_packing(facts, weights, engine, engine.packing, context, batch, sequences)
    tokens = _at_once(facts, engine, context)
    wide = 2 if weights.cache_bits <= 16 and unit != "cpu" else 4
    kept, turned = _kept(engine, context, unit), 0
    if facts.kind == "encoder-decoder" and engine.first_room and unit == "cpu":
        kept, turned = context, written_bytes(facts, context, sequences, cache_bits)
    ran = engine.running + (engine.writing if facts.writes_text else 0)
    serving = Memory(
        weights=0 if engine.in_place else weights.stored + _packed(engine, weights, unit),
        cache=cache_bytes(facts, kept, sequences, cache_bits) + turned,
        activations=_activations(facts, engine, tokens, context, batch, wide),
        logits=_logits(facts, engine, tokens, max(batch, sequences)),
        engine=engine.resident + kept_bytes(facts) + {"gpu": engine.gpu, "cpu": ran}.get(unit, 0),
    )
    beside = 0 if engine.in_place or unit != "cpu" else _beside(engine, weights, widens_sums)
    read_before = kept_bytes(facts) if facts.writes_text else 0
    loading = serving.weights + engine.resident + read_before + beside
    return replace(serving, engine=serving.engine + max(0, loading - serving.total))


def _with_packing(
    facts: ModelFacts,
    weights: Weights,
    engine: EngineCost,
    packing: Packing,
    context: int,
    batch: int,
    sequences: int,
) -> Memory:
    """Of an engine that packs weights and runs graphs of fixed shapes: rules in `packed`."""
    piece = piece_of(packing, facts, context)
    written = packing.logits * 4 * facts.vocabulary * piece if facts.writes_text else 0
    rows = 1 if facts.writes_text else batch
    return Memory(
        weights=weights_bytes(packing, facts, weights, context),
        cache=packing.caches * cache_bytes(facts, context, sequences, weights.cache_bits),
        activations=rows * activation_bytes(packing, facts, context),
        logits=written,
        engine=engine.resident + graph_bytes(packing, facts) + kept_bytes(facts),
    )


def _of_ggml(
    facts: ModelFacts,
    weights: Weights,
    engine: EngineCost,
    context: int,
    sequences: int,
    cache_bits: float,
    features: frozenset[str],
) -> Memory:
    """Of llama.cpp: rules in `ggml`. Each text has a context of its own, with all its buffers."""
    tokens = ggml.read_at_once(facts, context, sequences, engine.chunk)
    exact = weights.multiplies == "fp32"
    computed = ggml.activation_bytes(facts, tokens, context, exact=exact)
    vocabulary = 0
    if engine.ggml is not None:
        has_merges = facts.kind != "encoder"
        vocabulary = engine.ggml.merged if has_merges else engine.ggml.plain
    return Memory(
        weights=ggml.weights_bytes(facts, weights, features),
        cache=cache_bytes(facts, ggml.kept_tokens(facts, context), sequences, cache_bits),
        activations=computed * (sequences if facts.writes_text else 1),
        logits=ggml.logit_bytes(facts, tokens, sequences),
        engine=engine.resident + kept_bytes(facts) + facts.vocabulary * vocabulary,
    )


def _kept(engine: EngineCost, context: int, unit: str) -> int:
    """Tokens that the cache has room for where it takes most."""
    if unit != "cpu":
        return 2 * context if engine.hands_over else context
    if not engine.first_room:
        return context
    room = engine.first_room
    while room < context:
        room *= 2
    return room


def _packed(engine: EngineCost, weights: Weights, unit: str) -> int:
    """What stands beside the file's bytes for good where weights are packed for their products.

    A packed weight takes its original's place, but where that is the table of words too. Beside
    blocks stand their scales and sums once more. Source: benchmarks/plan/reality.py.
    """
    if unit != "cpu" or not engine.packs:
        return 0
    return (weights.head if weights.shared else 0) + 2 * weights.scales


def _beside(engine: EngineCost, weights: Weights, widens_sums: bool) -> int:
    """What stands beside the loaded weights while they are made.

    Weights are packed one by one: the largest tensor is there twice, no more than for good where
    that is a head that stays. float32 products are made of all the 16-bit ones in the file, before
    a shared head is packed; unsigned ones of signed 8-bit ones where the engine has to, to sum them
    exactly (`session.x64quantprecision`). Convolutions' weights are written anew with their
    channels in blocks, each in a buffer first, the old ones beside them until all are made.
    """
    if not engine.packs:
        return 0
    last = 0 if weights.shared and weights.as_floats else weights.largest_product
    if weights.stored != weights.file:
        return max(0, weights.products + last - (weights.head if weights.shared else 0))
    if weights.multiplies == "int8" and widens_sums:
        return weights.products + last + weights.largest_convolution
    blocked = weights.convolutions + weights.largest_convolution if weights.as_floats else 0
    return blocked + (0 if weights.shared and weights.as_floats else weights.largest)


def _activations(
    facts: ModelFacts, engine: EngineCost, tokens: int, context: int, batch: int, wide: int
) -> int:
    """The tensors that live at once in the widest layer: states, projections, feed-forward."""
    if facts.alive:
        return batch * (facts.arena if engine.has_arena else facts.alive * wide)
    encoder = _encoder_bytes(facts, engine, context) * wide // 4
    if engine.has_arena and facts.heads:
        return batch * (layers_bytes(facts, tokens) * wide // 4 + encoder)
    chosen = max(1, facts.active_experts)
    row = 6 * facts.hidden + 2 * facts.intermediate * chosen
    scores = facts.heads * tokens * context if engine.keeps_scores else 0
    return batch * ((tokens * row + scores) * wide + encoder)


def _at_once(facts: ModelFacts, engine: EngineCost, context: int) -> int:
    """Tokens that the graph that writes gets at once: one, where another has read the input."""
    if facts.kind == "encoder-decoder":
        return 1
    return min(context, engine.chunk) if facts.writes_text else context


def _encoder_bytes(facts: ModelFacts, engine: EngineCost, context: int) -> int:
    """A sound's encoder has fused attention: it goes by blocks, no scores stand in memory.

    That of a text has not where the engine keeps scores: benchmarks/plan/reality.py, T5.
    """
    if facts.kind != "encoder-decoder":
        return 0
    if engine.has_arena and not facts.encoder_tokens:
        return encoder_bytes(facts, context)
    return (
        4 * (facts.encoder_tokens or context) * (6 * facts.encoder_hidden + 2 * facts.intermediate)
    )


def _logits(facts: ModelFacts, engine: EngineCost, tokens: int, sequences: int) -> int:
    if not facts.writes_text:
        return 0
    rows = max(tokens, sequences) if engine.every_logit else sequences
    return 4 * facts.vocabulary * rows


def training_of(facts: ModelFacts, *, context: int, batch: int) -> Training:
    """Return what training takes: weights, gradients and Adam's two moments, 16 bytes each.

    Source of the activations: Korthikanti and others, arXiv:2205.05198, equation 6 (34 bytes a
    token, layer and hidden number, attention's scores computed anew), and the loss over the logits.
    """
    tokens = context * batch
    layers = facts.layers + (facts.encoder_layers if facts.kind == "encoder-decoder" else 0)
    activations = tokens * (34 * facts.hidden * layers + 8 * facts.vocabulary)
    adapters = _adapters(facts)
    return Training(
        full=facts.parameters * ADAM_BYTES + activations,
        lora=facts.parameters * 2 + adapters * ADAM_BYTES + activations,
        qlora=facts.parameters * 9 // 16 + adapters * ADAM_BYTES + activations,
        activations=activations,
        adapter_parameters=adapters,
    )


def _adapters(facts: ModelFacts) -> int:
    """Parameters of rank-16 adapters on every attention and feed-forward matrix, not on experts."""
    return sum(
        LORA_RANK * (tensor.count // tensor.columns + tensor.columns)
        for tensor in facts.tensors
        if tensor.is_matrix and kind_of(tensor.name) in ("attention", "mlp")
    )
