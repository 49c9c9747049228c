"""How many bytes a model's weights take in each format and precision, and what they multiply as."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from edgeward.errors import UnsupportedError
from edgeward.targets.profile import Recipe

from .engines import EngineCost
from .facts import ModelFacts, Tensor
from .gguf_mix import MIXES, file_types, size_of
from .roles import kind_of


@dataclass(frozen=True, slots=True)
class Storage:
    """How a precision stores: bits of a weight in a matrix, of a scale and of all that stays.

    A scale is shared by `block` columns, by a whole row where that is 0. Embeddings and the head
    stay in `rest` bits unless `tables`, convolutions unless `convolutions`. Both bytes and time
    follow `multiplies`, the rate that the products run at, and `cache`, the bits of a cached
    number.
    """

    bits: int
    multiplies: str
    cache: int
    rest: int = 32
    scale: int = 0
    block: int = 0
    tables: bool = True
    convolutions: bool = True


_INT8_ROWS = Storage(8, "int8", 32, scale=32)
# Rounded weights alone read a prompt 1.2 to 1.3 times as fast as float32, not as int8 does:
# benchmarks/onnx/report/report.md.
_INT8_BLOCKS = Storage(8, "fp16", 32, scale=32, block=32, convolutions=False)
_INT4_BLOCKS = Storage(4, "fp16", 32, scale=32, block=32, convolutions=False)
# Convolutions stay as they are: ONNX Runtime has none in integers that is faster than its floats.
_INT8_PRODUCTS = replace(_INT8_ROWS, convolutions=False)
_W8_ROWS = Storage(8, "int8", 16, rest=16, scale=16)
_W8 = Storage(8, "int8", 16, rest=16, scale=16, tables=False)
_W4 = Storage(4, "fp16", 16, rest=16, scale=16, block=128, tables=False)
_FP4 = Storage(4, "fp16", 16, rest=16, scale=8, block=16, tables=False)
STORAGE: Mapping[tuple[str, str], Storage] = {
    ("onnx", "fp32"): Storage(32, "fp32", 32),
    ("onnx", "fp16"): Storage(16, "fp16", 16, rest=16),
    ("onnx", "bf16"): Storage(16, "bf16", 16, rest=16),
    ("onnx", "int8-dynamic"): _INT8_PRODUCTS,
    ("onnx", "int8-static"): _INT8_ROWS,
    # Some layers stay in float32, which ones the compile decides: the bound from below.
    ("onnx", "int8-mixed"): _INT8_PRODUCTS,
    ("onnx", "int8-weights"): _INT8_BLOCKS,
    ("onnx", "int4-weights"): _INT4_BLOCKS,
    # A third of the layers in 8 bits, as the compile's search raises them by sensitivity.
    ("onnx", "int4-mixed"): _INT4_BLOCKS,
    ("coreml", "fp32"): Storage(32, "fp32", 32),
    ("coreml", "fp16"): Storage(16, "fp16", 16, rest=16),
    ("coreml", "int8-weights"): Storage(8, "fp16", 16, rest=16, scale=16),
    ("coreml", "w8a8"): _W8_ROWS,
    ("coreml", "palette6"): Storage(6, "fp16", 16, rest=16),
    ("coreml", "palette4"): Storage(4, "fp16", 16, rest=16),
    ("coreml", "int4-weights"): Storage(4, "fp16", 16, rest=16, scale=16, block=32),
    ("coreml", "int4-channels"): Storage(4, "fp16", 16, rest=16, scale=16),
    # Tensors of 4 and 8 bits, as many as the size allows: the bound from below.
    ("coreml", "mixed"): Storage(4, "fp16", 16, rest=16, scale=16, block=32),
    ("tflite", "fp32"): Storage(32, "fp32", 32),
    ("tflite", "fp16"): Storage(16, "fp32", 32, rest=16),
    ("tflite", "int8-dynamic"): _INT8_ROWS,
    ("tflite", "int8-weights"): Storage(8, "fp32", 32, scale=32),
    ("tflite", "int4-weights"): Storage(4, "int8", 32, scale=16, block=32),
    ("tflite", "int8-static"): Storage(8, "int8", 8, scale=32),
    # As the converter of Neuron, which nothing here makes files for yet, stores them.
    ("neuron", "bf16"): Storage(16, "bf16", 16, rest=16),
    ("neuron", "fp8"): Storage(8, "fp8", 16, rest=16, scale=32, tables=False),
    ("compressed", "fp8-dynamic"): Storage(8, "fp8", 16, rest=16, scale=16, tables=False),
    ("compressed", "fp8-static"): Storage(8, "fp8", 16, rest=16, tables=False),
    ("compressed", "w8a8"): _W8,
    ("compressed", "w4a16-gptq"): _W4,
    ("compressed", "w4a16-awq"): _W4,
    ("compressed", "w4a16-rtn"): _W4,
    ("compressed", "nvfp4"): Storage(4, "fp4", 16, rest=16, scale=8, block=16, tables=False),
    ("compressed", "nvfp4a16"): _FP4,
    ("compressed", "mxfp4"): Storage(4, "fp4", 16, rest=16, scale=8, block=32, tables=False),
}
_GGUF_WORDS = {"fp32": "f32", "fp16": "f16"}
_FLOATS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16"}
_HALVES = ("fp16", "bf16")
# The precision of a file that is what will run: each tensor as it lies there.
STORED = "stored"
CACHE_BITS: Mapping[str, float] = {
    "fp32": 32,
    "fp16": 16,
    "bf16": 16,
    "fp8": 8,
    "q8_0": 8.5,
    "q5_1": 6,
    "q5_0": 5.5,
    "q4_1": 5,
    "q4_0": 4.5,
}


@dataclass(frozen=True, slots=True)
class Weights:
    """What the weights take in bytes: all of them, and what a token reads of them.

    `read` counts every expert; `routed` is the experts' part of it. An embedding that is no head
    is looked up, a row a token, and not read. `head` is what the head takes, `shared` says that it
    is the embedding too. `file` is what is on the disk, `as_floats` says that no weight is an
    integer. Of the file, `products` are the matrices that something is multiplied with and `scales`
    the scales of their blocks; `largest` is the largest tensor, `largest_product` that of them.
    `float_convolutions` says that convolutions are no integers where other products are,
    `convolutions` what they take and `largest_convolution` the largest.
    Of a GGUF file `types` are the tensors with their types and bytes, where those are known.
    """

    stored: int
    read: int
    routed: int
    multiplies: str
    cache_bits: float
    head: int
    shared: bool
    file: int
    as_floats: bool
    products: int = 0
    scales: int = 0
    largest: int = 0
    largest_product: int = 0
    float_convolutions: bool = False
    convolutions: int = 0
    largest_convolution: int = 0
    types: tuple[tuple[Tensor, str, int], ...] = ()


@lru_cache(maxsize=1024)
def weights_of(facts: ModelFacts, format_name: str, precision: str) -> Weights:
    """Return the bytes of a model's weights; UnsupportedError for a precision nobody knows."""
    sizes = sizes_of(facts, format_name, precision)
    again = _words_again(facts, format_name, sizes)
    stored = sum(size for _, size in sizes) + again
    idle = sum(size for tensor, size in sizes if is_looked_up(facts, tensor)) + again
    routed = sum(size for tensor, size in sizes if kind_of(tensor.name) == "experts")
    shared = any(is_shared(facts, tensor) for tensor in facts.tensors)
    head = sum(size for tensor, size in sizes if _is_head(facts, tensor))
    multiplies, cache_bits = arithmetic(format_name, precision)
    products = [(t, size) for t, size in sizes if t.is_matrix and not is_looked_up(facts, t)]
    convolved = [(tensor, size) for tensor, size in products if tensor.is_convolution]
    storage = STORAGE.get((format_name, precision))
    return Weights(
        stored,
        stored - idle,
        routed,
        multiplies,
        cache_bits,
        head,
        shared,
        file=stored,
        as_floats=_plain(precision) in _FLOATS,
        products=sum(size for _, size in products),
        scales=sum(_scales(tensor, storage) for tensor, _ in products) if storage else 0,
        largest=_largest(sizes),
        largest_product=_largest(products),
        float_convolutions=storage is not None and not storage.convolutions,
        convolutions=sum(size for _, size in convolved),
        largest_convolution=_largest(convolved),
        types=tuple(_typed(facts, format_name, precision)),
    )


def _words_again(facts: ModelFacts, format_name: str, sizes: Iterable[tuple[Tensor, int]]) -> int:
    """Bytes of the table of words that stands in two graphs: what reads looks words up too."""
    if format_name != "onnx" or facts.kind != "encoder-decoder" or facts.encoder_tokens:
        return 0
    return sum(size for tensor, size in sizes if _is_words(facts, tensor))


def loaded(facts: ModelFacts, recipe: Recipe, engine: EngineCost, unit: str) -> Weights:
    """Return the weights as an engine computes with them: some have no 16-bit products on a CPU."""
    weights = weights_of(facts, recipe.format, recipe.precision)
    if unit != "cpu" or not engine.widens or recipe.precision not in _HALVES:
        return weights
    wide = weights_of(facts, recipe.format, "fp32")
    # Rows are made wide as they are looked up: their table stays as it lies in the file.
    looked_up = weights.stored - weights.read
    return replace(
        wide,
        stored=wide.read + looked_up,
        file=weights.file,
        products=weights.products,
        largest=weights.largest,
        largest_product=weights.largest_product,
    )


def sizes_of(facts: ModelFacts, format_name: str, precision: str) -> list[tuple[Tensor, int]]:
    """Return each tensor with its bytes in a format and precision."""
    mix = _plain(precision)
    if format_name == "gguf" and mix in MIXES:
        return [(tensor, size_of(tensor, name)) for tensor, name in file_types(facts, mix)]
    if precision == STORED:
        return [(tensor, -(-int(tensor.count * tensor.bits) // 8)) for tensor in facts.tensors]
    storage = STORAGE.get((format_name, precision))
    if storage is None:
        known = [*(f"{f} {p}" for f, p in STORAGE), *(f"gguf {name}" for name in MIXES)]
        raise UnsupportedError(
            f"the planner knows no size for {format_name} {precision}",
            why=f"known: {', '.join(known)}",
        )
    return [(tensor, _bytes(tensor, storage)) for tensor in facts.tensors]


def _typed(
    facts: ModelFacts, format_name: str, precision: str
) -> Iterator[tuple[Tensor, str, int]]:
    """Give the tensors of a GGUF file with their types and bytes."""
    mix = _plain(precision)
    if format_name == "gguf" and mix in MIXES:
        for tensor, name in file_types(facts, mix):
            yield tensor, name, size_of(tensor, name)
    elif precision == STORED:
        for tensor in facts.tensors:
            if tensor.stored_as:
                yield tensor, tensor.stored_as, size_of(tensor, tensor.stored_as)


def arithmetic(format_name: str, precision: str) -> tuple[str, float]:
    """Return the rate that products run at, and the bits of a cached number."""
    if format_name == "gguf":
        # Blocks are multiplied about as fast as 16-bit floats: benchmarks/plan/reality.py.
        multiplies = _FLOATS.get(_plain(precision), "fp16")
        return multiplies, CACHE_BITS["fp32" if multiplies == "fp32" else "fp16"]
    storage = STORAGE[format_name, precision]
    return storage.multiplies, storage.cache


def _plain(precision: str) -> str:
    """GGUF's own word for a precision: recipes say fp16 where files say f16."""
    return _GGUF_WORDS.get(precision, precision)


def is_looked_up(facts: ModelFacts, tensor: Tensor) -> bool:
    """Say whether a tensor is a table that gives rows: an embedding that is not the head too."""
    is_table = kind_of(tensor.name) == "embedding" and tensor.is_matrix
    return is_table and not is_shared(facts, tensor)


def is_shared(facts: ModelFacts, tensor: Tensor) -> bool:
    """Say whether a tensor is both the embedding of words and the head."""
    return _is_words(facts, tensor) and facts.tied and facts.writes_text


def _is_words(facts: ModelFacts, tensor: Tensor) -> bool:
    if kind_of(tensor.name) != "embedding" or not tensor.is_matrix:
        return False
    return facts.vocabulary > 0 and facts.vocabulary == tensor.shape[0]


def _is_head(facts: ModelFacts, tensor: Tensor) -> bool:
    own = kind_of(tensor.name) == "head" and tensor.is_matrix and facts.writes_text
    return own or is_shared(facts, tensor)


def _largest(sizes: Iterable[tuple[Tensor, int]]) -> int:
    """Bytes of the largest tensor: of alike ones, of one."""
    return max((size // tensor.copies for tensor, size in sizes), default=0)


def _bytes(tensor: Tensor, storage: Storage) -> int:
    is_table = kind_of(tensor.name) in ("embedding", "head")
    stays = (is_table and not storage.tables) or (
        tensor.is_convolution and not storage.convolutions
    )
    if not tensor.is_matrix or stays:
        return -(-tensor.count * storage.rest // 8)
    return -(-tensor.count * storage.bits // 8) + _scales(tensor, storage)


def _scales(tensor: Tensor, storage: Storage) -> int:
    rows = tensor.count // max(1, tensor.columns)
    scales = rows * -(-tensor.columns // storage.block) if storage.block else rows
    return -(-scales * storage.scale // 8)
