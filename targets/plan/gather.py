"""Model facts from a configuration and, where there are any, the tensors that headers list."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from edgeward.errors import UnsupportedError

from . import layout_conv
from .arena import held_bytes
from .cache import cache_of, describe
from .config import Config
from .engines import KERNELS
from .facts import CacheLayer, ModelFacts, Tensor, Work
from .layout_decoder import ACTIVE, EXPERTS, HEADS, HIDDEN, LAYERS, MLP, is_tied, kv_heads
from .layout_encoder import patches
from .layout_steps import PICTURE, Step, alive
from .layouts import STAGED, STYLES, USUAL_SIDES, kind_of_model, steps_of, tensors_of, text_of
from .roles import split

MAX_CONTEXT = (
    "max_target_positions",
    "max_position_embeddings",
    "n_positions",
    "max_sequence_length",
    "seq_length",
)


def facts_of(
    document: Mapping[str, object],
    listed: Sequence[Tensor] | None = None,
    *,
    name: str = "model",
    bytes_read: int = 0,
    counted: str = "",
    side: int | None = None,
) -> ModelFacts:
    """Return the facts of a model from its config.json and the tensors in its files' headers.

    `side` is that of the pictures it is fed, where that is not what the configuration was made for.
    Without `listed` the tensors follow from the configuration; UnsupportedError where no rule
    knows the architecture. Raises SourceError where the configuration does not say its sizes.
    """
    config = Config(document)
    model_type = config.text("model_type")
    tensors = tuple(listed) if listed is not None else tensors_of(config)
    if tensors is None:
        raise UnsupportedError(
            f"the parameters of {model_type or 'this model'} cannot be told from config.json alone",
            why="no rule lists the tensors of this architecture; its weights' headers would",
            next="give the folder or the repository with its safetensors files",
        )
    kind = kind_of_model(model_type)
    main = text_of(config)
    side = side or _stated_side(main)
    steps = steps_of(_fed(config, side)) or ()
    size = _Sizes(_fed(main, side), kind, steps)
    return ModelFacts(
        name=name,
        model_type=model_type,
        kind=kind,
        counted=counted or ("config" if listed is None else "headers"),
        tensors=tensors,
        cache=size.cache(),
        layers=size.layers,
        hidden=size.hidden,
        intermediate=size.intermediate,
        heads=size.heads,
        kv_heads=size.kv_heads,
        vocabulary=main.count("vocab_size", default=0, least=0),
        max_context=main.maybe(*MAX_CONTEXT) or size.fixed_length,
        experts=main.maybe(*EXPERTS) or 0,
        active_experts=main.maybe(*ACTIVE) or 0,
        encoder_tokens=size.encoder_tokens,
        encoder_layers=size.encoder_layers,
        encoder_hidden=size.hidden if kind == "encoder-decoder" else 0,
        cross_width=size.cross_width,
        seen=_seen(config, side, steps),
        works=tuple(
            Work(step.weighed, step.convolved, step.compared, step.moved) for step in steps
        ),
        alive=alive(steps),
        arena=held_bytes(steps),
        tied=_tied(main, tensors),
        attention=size.attention,
        bytes_read=bytes_read,
        parts=split(tensors, kind),
    )


def _fed(config: Config, side: int | None) -> Config:
    return Config({**config.items(), "image_size": side}, config.where) if side else config


def _seen(config: Config, side: int | None, steps: Sequence[Step]) -> str:
    """What one input is, empty where nothing was gone through step by step."""
    if not steps:
        return ""
    if config.has("num_mel_bins"):
        return "a spectrogram"
    inner = config.section("vision_config", "backbone_config") or config
    usual = USUAL_SIDES.get(config.text("model_type"), PICTURE)
    stated = side or _stated_side(inner) or inner.maybe("image_size") or usual
    return f"pictures of {stated} x {stated}"


def _tied(config: Config, tensors: Sequence[Tensor]) -> bool:
    style = STYLES.get(config.text("model_type"))
    if style is not None and is_tied(config, style):
        return True
    return not any(each.name in ("lm_head.weight", "output.weight") for each in tensors)


class _Sizes:
    """The few sizes that memory and time follow, by the model's kind."""

    def __init__(self, config: Config, kind: str, steps: Sequence[Step]) -> None:
        self._config, self._kind = config, kind
        self.is_convolved = kind == "vision" and config.text("model_type") == "resnet"
        self._is_staged = config.text("model_type") in STAGED
        if self.is_convolved:
            config = _as_layers(config)
        if self._is_staged:
            config = _as_stages(config, steps)
        self._is_flat = self.is_convolved or self._is_staged or not config.has(*HIDDEN)
        self.hidden = config.count(*HIDDEN, default=1)
        self.layers = config.count(*_DECODER_LAYERS, default=1)
        # Without heads nothing tells how long it takes.
        least = 0 if self._is_staged else 1
        self.heads = config.count("decoder_attention_heads", *HEADS, default=1, least=least)
        self.kv_heads = kv_heads(config) if kind == "decoder" else self.heads
        self.intermediate = config.count(
            "moe_intermediate_size", "decoder_ffn_dim", *MLP, default=4 * self.hidden
        )
        self.encoder_layers = config.count("encoder_layers", "num_layers", default=0, least=0)
        if kind != "encoder-decoder":
            self.encoder_layers = self.layers if kind != "decoder" else 0

    @property
    def fixed_length(self) -> int:
        """The tokens that a model without a text's length always takes."""
        if self.is_convolved:
            return layout_conv.stem_side(self._config) ** 2
        if self._is_staged:
            return 1
        if self._kind == "vision" and self._config.has("patch_size"):
            return patches(self._config) + 1
        return 512

    @property
    def encoder_tokens(self) -> int:
        """What the encoder makes of one input: Whisper's is always whole."""
        if self._kind == "vision":
            return self.fixed_length
        return self._config.count("max_source_positions", default=0, least=0)

    @property
    def attention(self) -> str:
        """The attention in a few words."""
        if self._kind == "decoder":
            return describe(self._config)
        return f"MHA {self.heads}/{self.heads}" if not self._is_flat else ""

    @property
    def cross_width(self) -> int:
        """Numbers that the decoder keeps of one token of the encoder, over all layers."""
        return 2 * self._inner * self.layers if self._kind == "encoder-decoder" else 0

    @property
    def _inner(self) -> int:
        size = self._config.count("d_kv", default=self.hidden // self.heads)
        return self.heads * size

    def cache(self) -> tuple[CacheLayer, ...]:
        """What each layer keeps of the past, nothing where the model writes nothing."""
        if self._kind == "decoder":
            return cache_of(self._config)
        if self._kind == "encoder-decoder":
            return (CacheLayer(2 * self._inner),) * self.layers
        return ()


def _as_layers(config: Config) -> Config:
    """A residual network's sizes in a transformer's words: the widest tensors, a layer a block."""
    widths, depths = config.numbers("hidden_sizes"), config.numbers("depths")
    sizes = {
        "hidden_size": config.count("embedding_size", default=64),
        "intermediate_size": next(iter(widths), 1),
        "num_hidden_layers": max(1, sum(depths)),
    }
    return Config({**config.items(), **sizes}, config.where)


def _as_stages(config: Config, steps: Sequence[Step]) -> Config:
    """A network of stages, whose steps alone tell its sizes; without heads where there are none."""
    sizes = {"hidden_size": 1, "intermediate_size": 1, "num_attention_heads": 1 if steps else 0}
    worked = sum(1 for step in steps if step.weighed or step.compared)
    return Config({**sizes, "num_hidden_layers": max(1, worked // KERNELS)}, config.where)


def _stated_side(config: Config) -> int | None:
    """The side of a picture whose height and width are told apart, None where they are not."""
    sides = config.numbers("image_size")
    return math.isqrt(math.prod(sides)) or None if len(sides) == 2 else None


_DECODER_LAYERS = ("num_decoder_layers", "decoder_layers", *LAYERS)
