"""What an engine keeps that packs weights for its kernels and runs graphs of fixed shapes.

Measured on LiteRT 2.3.0 with XNNPACK by benchmarks/plan/reality.py, part by part on the kernel's
account of a process (anonymous, of files, shared).
"""

from __future__ import annotations

from dataclasses import replace

from .facts import ModelFacts, Tensor
from .packing import Packing, SlotShares
from .precision import Weights, is_looked_up, is_shared
from .roles import tower_of

# Linux maps that much around a page that is touched (fault_around_bytes of its memory manager).
AROUND = 64 * 1024
# estimate: of a text's tokens those that it has not had before
NEW_WORDS = 1 / 3


def weights_bytes(packing: Packing, facts: ModelFacts, weights: Weights, context: int) -> int:
    """Return the bytes of weights in every form that stands when all is loaded."""
    packed = _packed(facts, weights)
    kept = packed + (_widest(facts, packed) if facts.writes_text else 0)
    if weights.read < packed:
        return kept + weights.file + _unpacked(packing, facts, weights, packed)
    return kept + _mapped(facts, weights, context)


def _mapped(facts: ModelFacts, weights: Weights, context: int) -> int:
    """What stays of the file: rows that were looked up, and what no generator was packed from."""
    table = int(weights.stored * _table(facts) / facts.parameters)
    rows = min(table, int(context * AROUND * NEW_WORDS))
    return rows + int(weights.read * _apart(facts))


def _unpacked(packing: Packing, facts: ModelFacts, weights: Weights, packed: int) -> int:
    """The floats that each graph makes of what its operators do not take rounded.

    Halves are packed as they lie: the table alone is unpacked, for its rows and where it is the
    head for that too. Integers that are multiplied as floats are all unpacked before. Outside of
    generators a table of halves is copied before.
    """
    table = 4 * _table(facts)
    if not facts.writes_text:
        return table + (table // 2 if weights.as_floats else packed)
    if weights.as_floats:
        return packing.signatures * table * (2 if weights.shared else 1)
    encoder = int(packed * _apart(facts))
    return packing.signatures * (packed - encoder + table) + encoder


def _apart(facts: ModelFacts) -> float:
    """The share of the weights that stand in a file of no generator: all, or an encoder's."""
    return encoder_share(facts) if facts.writes_text else 1.0


def encoder_share(facts: ModelFacts) -> float:
    """Return the share of the parameters that belong to what a decoder looks back at."""
    inside = sum(
        tensor.count for tensor in facts.tensors if tower_of(tensor.name, facts.kind) == "encoder"
    )
    return inside / max(1, facts.parameters)


def computed(facts: ModelFacts, weights: Weights) -> Weights:
    """Return the weights as a token reads them: packed, as floats where they are multiplied so."""
    packed = _packed(facts, weights)
    return replace(weights, stored=max(weights.stored, packed), read=packed)


def _packed(facts: ModelFacts, weights: Weights) -> int:
    if weights.multiplies == "int8":
        return weights.read
    return 4 * sum(tensor.count for tensor in facts.tensors if not is_looked_up(facts, tensor))


def _widest(facts: ModelFacts, packed: int) -> int:
    """The buffer that the largest matrix was packed in, which stays."""
    counts = [tensor.count // tensor.copies for tensor in _multiplied(facts)]
    return packed * max(counts, default=0) // max(1, sum(t.count for t in _multiplied(facts)))


def _multiplied(facts: ModelFacts) -> list[Tensor]:
    return [one for one in facts.tensors if one.is_matrix and not is_looked_up(facts, one)]


def _table(facts: ModelFacts) -> int:
    """Numbers of the table that words are looked up in."""
    return max(
        (
            tensor.count
            for tensor in facts.tensors
            if is_looked_up(facts, tensor) or is_shared(facts, tensor)
        ),
        default=0,
    )


def activation_bytes(packing: Packing, facts: ModelFacts, context: int) -> int:
    """Return the bytes of a graph's tensors, of an encoder beside a generator too."""
    if facts.alive:
        return 4 * facts.alive
    if not facts.writes_text:
        return 4 * _read_numbers(packing, facts, context)
    slots = max(context, facts.encoder_tokens)
    own = _written_numbers(facts, piece_of(packing, facts, context), slots)
    return 4 * (own + _read_numbers(packing, facts, facts.encoder_tokens))


def _read_numbers(packing: Packing, facts: ModelFacts, tokens: int) -> int:
    row = 6 * facts.hidden + 2 * facts.intermediate
    scores = packing.scores * facts.heads * tokens**2
    return tokens * row + scores + packing.joined * tokens * facts.hidden


def _written_numbers(facts: ModelFacts, tokens: int, slots: int) -> int:
    """Scores before and after the softmax, or a feed-forward, which has the same place.

    Beside scores stand the keys and values that heads share, copied for each.
    """
    grouped = facts.heads / max(1, facts.kv_heads)
    seen = max((layer.numbers(slots) for layer in facts.cache), default=0)
    attention = 2 * facts.heads * tokens * slots + (int(seen * grouped) if grouped > 1 else 0)
    return max(attention, tokens * 2 * (facts.hidden + facts.intermediate))


def graph_bytes(packing: Packing, facts: ModelFacts) -> int:
    """Return what the operators of a generator's graphs take; an encoder's one is small."""
    if not facts.writes_text:
        return 0
    layers = packing.signatures * facts.layers + facts.encoder_layers
    return layers * packing.layer + packing.generator


def attention_s(
    packing: Packing,
    facts: ModelFacts,
    context: int,
    sequences: int,
    bytes_per_s: float,
    shares: SlotShares | None = None,
) -> float:
    """Return seconds that a step's attention takes: all slots are written anew and copied.

    `shares` are those of the bandwidth, where they were measured.
    """
    grouped = facts.heads / max(1, facts.kv_heads)
    own = 4 * sum(layer.numbers(context) for layer in facts.cache)
    seen = own * grouped + 4 * facts.cross_width * facts.encoder_tokens
    if shares is None:
        moved = seen * packing.moved[seen > packing.near * facts.layers]
    else:
        moved = seen * shares.reading(seen / max(1, facts.layers))
        moved += own / shares.written if shares.written else 0.0
    return sequences * moved / bytes_per_s


def piece_of(packing: Packing, facts: ModelFacts, context: int) -> int:
    """Return the tokens that a graph takes at once, all of them where it writes nothing."""
    if not facts.writes_text:
        return context
    return min(packing.heard if facts.encoder_tokens else packing.piece, context)


def calls_of(packing: Packing, facts: ModelFacts, tokens: int, context: int) -> tuple[int, int]:
    """Return how many calls read a prompt, and the tokens of each: the last one is padded."""
    piece = piece_of(packing, facts, context)
    return -(-tokens // piece), piece
