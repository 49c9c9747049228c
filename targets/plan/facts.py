"""What the planner knows of a model: its tensors and the shape of what it caches.

Pure data, from headers and configuration alone: no weight is ever read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

TOWERS = ("decoder", "encoder", "vision", "audio")
KINDS = ("embedding", "attention", "mlp", "experts", "head", "other")


@dataclass(frozen=True, slots=True)
class Tensor:
    """A weight, or `copies` alike ones: its name as published, its shape (rows first).

    `bits` is what a number takes in the file that it was read from, 0 where there is no file;
    `stored_as` is its type there in a GGUF file, as q4_k.
    """

    name: str
    shape: tuple[int, ...]
    copies: int = 1
    bits: float = 0.0
    stored_as: str = ""

    @property
    def count(self) -> int:
        """How many parameters it holds."""
        return prod(self.shape) * self.copies

    @property
    def columns(self) -> int:
        """The length of a row, along which blocks are quantised: all that makes one output."""
        if self.is_convolution:
            return prod(self.shape[1:])
        return self.shape[-1] if self.shape else 1

    @property
    def is_convolution(self) -> bool:
        """Say whether it slides over a picture: outputs, inputs, height, width."""
        return len(self.shape) == 4

    @property
    def is_matrix(self) -> bool:
        """Say whether it multiplies something: norms and biases do not and stay as they are."""
        return len(self.shape) > 1


@dataclass(frozen=True, slots=True)
class CacheLayer:
    """What a layer keeps of the past: numbers a token, at most `window` tokens, a fixed state.

    `width` counts keys and values together: 2 x kv heads x head size, or a latent's rank and its
    rotary part (DeepSeek-V2, arXiv:2405.04434). `state` counts what linear attention and
    convolutions keep whatever the length.
    """

    width: int
    window: int | None = None
    state: int = 0

    def numbers(self, context: int) -> int:
        """Return how many numbers a sequence of `context` tokens keeps."""
        kept = context if self.window is None else min(context, self.window)
        return self.width * kept + self.state


@dataclass(frozen=True, slots=True)
class Work:
    """What one operator does for one picture.

    Operations with weights, of them those of convolutions, operations among activations, and the
    numbers that it reads and writes beside its weights.
    """

    weighed: int
    convolved: int
    compared: int
    moved: int

    @property
    def multiplies(self) -> bool:
        """Say whether it is a product: what is none is folded into those by some engines."""
        return self.weighed > 0 or self.compared > 0


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model: tensors, cache, the sizes that its activations follow.

    `kind` is `decoder`, `encoder`, `encoder-decoder` or `vision`. `cross_width` counts the numbers
    that the decoder keeps of each of `encoder_tokens`, all layers together. `counted` says where
    the parameters come from: `headers` of safetensors files, `gguf`, or `config`. `cached` is the
    commit where all was read from the hub's cache on this machine.

    Where a picture was gone through step by step, `seen` says what of: `works` are its operators,
    `alive` numbers stand in memory at once and `arena` bytes in that of an engine that has run
    twice (`arena.py`). Elsewhere these are empty.
    """

    name: str
    model_type: str
    kind: str
    counted: str
    tensors: tuple[Tensor, ...]
    cache: tuple[CacheLayer, ...]
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    max_context: int
    experts: int = 0
    active_experts: int = 0
    encoder_tokens: int = 0
    encoder_layers: int = 0
    encoder_hidden: int = 0
    cross_width: int = 0
    seen: str = ""
    works: tuple[Work, ...] = ()
    alive: int = 0
    arena: int = 0
    tied: bool = False
    attention: str = ""
    bytes_read: int = 0
    cached: str = ""
    parts: Mapping[str, int] = field(default_factory=dict, hash=False)

    @property
    def parameters(self) -> int:
        """How many parameters there are, each shared one once."""
        return sum(tensor.count for tensor in self.tensors)

    @property
    def operators(self) -> int:
        """How many of its operators multiply."""
        return sum(work.multiplies for work in self.works)

    @property
    def operations(self) -> int:
        """The operations with weights of one picture, 0 where it was not gone through."""
        return sum(work.weighed for work in self.works)

    @property
    def convolved(self) -> int:
        """Of these, those of convolutions."""
        return sum(work.convolved for work in self.works)

    @property
    def compared(self) -> int:
        """The operations among activations of one picture."""
        return sum(work.compared for work in self.works)

    @property
    def active_parameters(self) -> int:
        """How many take part in a token: of the experts those that it is routed to."""
        if not self.experts:
            return self.parameters
        routed = self.parts.get("experts", 0)
        return self.parameters - routed + routed * self.active_experts // self.experts

    @property
    def writes_text(self) -> bool:
        """Say whether it writes token by token."""
        return self.kind in ("decoder", "encoder-decoder")
