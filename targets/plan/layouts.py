"""Which architecture has which tensors: a row each, from the configuration's `model_type`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from edgeward.errors import SourceError

from . import (
    layout_conv,
    layout_convnext,
    layout_dense,
    layout_detr,
    layout_encoder,
    layout_mobile,
    layout_pair,
    layout_patches,
    layout_reduced,
    layout_sound,
    layout_windows,
)
from .config import Config
from .facts import Tensor
from .layout_decoder import Style, decoder
from .layout_steps import Step, Steps, of_a_picture

Layout = Callable[[Config], Iterator[Tensor]]
Walk = Callable[[Config], Steps | None]

_PLAIN = Style(qkv_bias=False, out_bias=False, mlp_bias=False)
_FOUR_NORMS = Style(mlp_bias=False, norms=4, tied=True)
STYLES: Mapping[str, Style] = {
    "llama": Style(),
    "smollm3": Style(tied=True),
    "mistral": _PLAIN,
    "ministral": _PLAIN,
    "mixtral": _PLAIN,
    "granite": Style(),
    "qwen2": Style(qkv_bias=True, out_bias=False, mlp_bias=False),
    "qwen2_moe": Style(qkv_bias=True, out_bias=False, mlp_bias=False),
    "qwen3": Style(mlp_bias=False, qk_norm="head"),
    "qwen3_moe": Style(mlp_bias=False, qk_norm="head"),
    "gemma": Style(mlp_bias=False, tied=True),
    "gemma2": _FOUR_NORMS,
    "gemma3_text": Style(mlp_bias=False, norms=4, tied=True, qk_norm="head"),
    "phi": Style(
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        head_bias=True,
        norms=1,
        norm_bias=True,
        gated=False,
    ),
    "phi3": Style(qkv_bias=False, out_bias=False, mlp_bias=False, fused=True),
    "olmo": Style(norms=0, final_norm=False),
    "olmo2": Style(mlp_bias=False, qk_norm="full"),
    "stablelm": Style(qkv_bias="use_qkv_bias", out_bias=False, mlp_bias=False, norm_bias=True),
    "starcoder2": Style(
        qkv_bias="use_bias",
        out_bias="use_bias",
        mlp_bias="use_bias",
        norm_bias=True,
        gated=False,
        tied=True,
    ),
    "falcon": Style(
        qkv_bias="bias",
        out_bias="bias",
        mlp_bias="bias",
        norms=1,
        norm_bias=True,
        gated=False,
        fused=True,
        tied=True,
    ),
    "gpt2": Style(
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        norm_bias=True,
        gated=False,
        fused=True,
        tied=True,
        positions=0,
    ),
    "gpt_neox": Style(
        qkv_bias=True, out_bias=True, mlp_bias=True, norm_bias=True, gated=False, fused=True
    ),
    "opt": Style(
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        norm_bias=True,
        gated=False,
        tied=True,
        positions=2,
    ),
    "gpt_oss": Style(mlp_bias=False, sinks=True),
    "deepseek_v2": _PLAIN,
    "deepseek_v3": _PLAIN,
}
# What hears a sound's samples.
_SAMPLES = ("wav2vec2", "hubert", "wavlm")
OTHERS: Mapping[str, Layout] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "distilbert", "mpnet"), layout_encoder.bert),
    **dict.fromkeys(("vit", "deit", "dinov2"), layout_encoder.vit),
    "clip": layout_encoder.clip,
    "whisper": layout_pair.whisper,
    **dict.fromkeys(("bart", "marian"), layout_pair.bart),
    **dict.fromkeys(("t5", "mt5"), layout_pair.t5),
    **dict.fromkeys(_SAMPLES, layout_sound.speech),
}
# What sees a picture or a spectrogram whose parts differ in size: gone through step by step. None
# comes of a configuration whose backbone no rule knows.
WALKS: Mapping[str, Walk] = {
    "resnet": layout_conv.resnet,
    "regnet": layout_conv.regnet,
    **dict.fromkeys(("swin", "swinv2"), layout_windows.swin),
    **dict.fromkeys(("convnext", "convnextv2"), layout_convnext.convnext),
    "segformer": layout_reduced.segformer,
    "glpn": layout_reduced.glpn,
    "mobilenet_v1": layout_mobile.mobilenet_v1,
    "mobilenet_v2": layout_mobile.mobilenet_v2,
    "mobilevit": layout_mobile.mobilevit,
    "detr": layout_detr.detr,
    "dpt": layout_dense.dpt,
    "depth_anything": layout_dense.depth_anything,
    "beit": layout_patches.beit,
    "dinov2_with_registers": layout_patches.registers,
    "yolos": layout_patches.yolos,
    "siglip": layout_patches.siglip,
    "audio-spectrogram-transformer": layout_patches.spectrogram,
}
# Gemma 3's configuration leaves out what its class has as defaults.
_DEFAULTS: Mapping[str, Mapping[str, object]] = {
    "gemma3_text": {
        "head_dim": 256,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "vocab_size": 262_208,
        "sliding_window": 4096,
        "max_position_embeddings": 131_072,
    }
}
# The side of pictures where neither settings nor configuration say one, `PICTURE` elsewhere.
USUAL_SIDES: Mapping[str, int] = {"detr": layout_detr.PICTURE, "mobilevit": 256, "dpt": 384}
MOST_STEPS = 10_000
# What is not looked at in patches of one resolution, or by more than that: no one width or count of
# layers tells its memory and time. Where no walk knows it, it is planned by its weights alone.
STAGED = frozenset(
    {"swin", "swinv2", "convnext", "convnextv2", "regnet", "segformer", "mobilenet_v1"}
    | {"mobilenet_v2", "mobilevit", "detr", "dpt", "depth_anything", "glpn"}
    | {"audio-spectrogram-transformer"}
)
VISION_KINDS = STAGED | {
    *("vit", "deit", "dinov2", "dinov2_with_registers", "resnet", "siglip", "beit", "yolos"),
}
ENCODERS = frozenset(
    {"bert", "roberta", "xlm-roberta", "distilbert", "mpnet", "albert", "electra", "deberta"}
    | {"deberta-v2", "modernbert", "nomic_bert", "clip", "camembert", "wav2vec2", "hubert"}
    | {"rembert", "ibert", "roberta-prelayernorm", "eurobert", "megatron-bert", "ernie", "wavlm"}
    | {"squeezebert", "xlm-roberta-xl", "data2vec-text", "splinter"}
)
PAIRS = frozenset(
    {"whisper", "bart", "mbart", "marian", "t5", "mt5", "pegasus", "m2m_100", "umt5", "longt5"}
    | {"pegasus_x", "blenderbot", "blenderbot-small", "mvp", "plbart"}
)


def kind_of_model(model_type: str) -> str:
    """Return `encoder`, `vision`, `encoder-decoder`, or `decoder` for any other type."""
    if model_type in VISION_KINDS:
        return "vision"
    if model_type in ENCODERS:
        return "encoder"
    return "encoder-decoder" if model_type in PAIRS else "decoder"


def tensors_of(config: Config) -> tuple[Tensor, ...] | None:
    """Return the model's tensors from its configuration alone, None where no rule knows them."""
    kind = config.text("model_type")
    if kind in STYLES:
        return tuple(decoder(config, STYLES[kind]))
    if kind in WALKS:
        steps = steps_of(config)
        return None if steps is None else tuple(one for step in steps for one in step.tensors)
    if kind in _SAMPLES and not layout_sound.is_known(config):
        return None
    if kind in OTHERS:
        return tuple(OTHERS[kind](config))
    if kind == "gemma3" and config.has("text_config"):
        return tuple(_gemma3(config, text_of(config)))
    return None


def steps_of(config: Config) -> tuple[Step, ...] | None:
    """Return what the model does to one picture, None where no walk knows it.

    Raises SourceError where it does more than any network that was published.
    """
    walk = WALKS.get(config.text("model_type"))
    walked = None if walk is None else walk(config)
    if walked is None:
        return None
    steps = tuple(islice(walked, MOST_STEPS + 1))
    if len(steps) > MOST_STEPS:
        raise SourceError(f"{config.where}: more than {MOST_STEPS} operators are not gone through")
    return of_a_picture(steps)


def text_of(config: Config) -> Config:
    """Return the section that tells the text model's sizes, the whole where there is no other."""
    text = config.section("text_config", "llm_config", "language_config")
    if text is None:
        return config
    model_type = text.text("model_type")
    return Config({**_DEFAULTS.get(model_type, {}), **text.items()}, text.where)


def _gemma3(config: Config, text: Config) -> Iterator[Tensor]:
    """Gemma 3 with pictures: SigLIP's tower and a projection beside the text model."""
    yield from decoder(text, STYLES["gemma3_text"], "language_model.")
    vision = config.section("vision_config")
    if vision is None:
        return
    yield from layout_encoder.siglip_vision(vision, "vision_tower.vision_model")
    width, hidden = vision.count("hidden_size"), text.count("hidden_size")
    yield Tensor("multi_modal_projector.mm_input_projection_weight", (width, hidden))
    yield Tensor("multi_modal_projector.mm_soft_emb_norm.weight", (width,))
