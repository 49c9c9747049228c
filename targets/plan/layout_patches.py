"""Transformers over patches of a picture or a spectrogram, with what stands before and after them.

BEiT (arXiv:2106.08254), DINOv2 with registers (arXiv:2309.16588), YOLOS (arXiv:2106.00666), SigLIP
(arXiv:2303.15343) and the Audio Spectrogram Transformer (arXiv:2104.01778), as transformers lays
them out.
"""

from __future__ import annotations

from .config import Config
from .layout_decoder import LAYERS
from .layout_steps import (
    ROWS,
    SEQUENCE,
    Steps,
    attention,
    beside,
    block,
    classifier,
    convolution,
    feed_forward,
    head,
    labels,
    linear,
    norm,
    numbers,
    passed,
    table,
    upwards,
)

_WIDTH, _HEADS, _LAYERS, _SIZE = 768, 12, 12, 3072


def grid(config: Config, side: int = 224, patch: int = 16) -> tuple[int, int]:
    """Return how many patches a picture has from top to bottom, and from left to right."""
    step = config.count("patch_size", default=patch)
    sides = config.numbers("image_size")
    if len(sides) != 2:
        sides = (config.count("image_size", default=side),) * 2
    return max(1, sides[0] // step), max(1, sides[1] // step)


def width_of(config: Config) -> int:
    """Return the numbers that stand for a patch."""
    return config.count("hidden_size", default=_WIDTH)


def cut(config: Config, places: int, patch: int = 16, channels: int = 3) -> Steps:
    """Give the matrix that makes a patch of each square of the picture."""
    step, width = config.count("patch_size", default=patch), width_of(config)
    inputs = config.count("num_channels", default=channels) * step**2
    yield from linear("embeddings.patch_embeddings.projection", width, inputs, places)


def layers(
    config: Config,
    places: int,
    base: str = "encoder.layers",
    biases: str = "qkvo",
    *,
    fused: bool = True,
) -> Steps:
    """Give the layers, all alike; attention is `fused` where nothing is added to its scores."""
    size = config.count("intermediate_size", default=_SIZE)
    heads = config.count("num_attention_heads", default=_HEADS)
    for layer in range(config.count(*LAYERS, default=_LAYERS)):
        at = f"{base}.{layer}"
        yield from block(at, width_of(config), size, places, heads, biases, fused=fused)


def biases_of(config: Config) -> str:
    """Return the projections of attention that have a bias."""
    return "qkvo" if config.flag("qkv_bias", True) else "o"


def spectrogram(config: Config) -> Steps:
    """Give the Audio Spectrogram Transformer's steps: patches overlap in time and frequency."""
    patch, width = config.count("patch_size", default=16), width_of(config)
    steps = (
        ("num_mel_bins", 128, "frequency_stride"),
        ("max_length", 1024, "time_stride"),
    )
    seen = [
        max(0, config.count(name, default=most) - patch) // config.count(stride, default=10) + 1
        for name, most, stride in steps
    ]
    places = seen[0] * seen[1]
    yield table("embeddings.cls_token", 1, 2, width)
    yield table("embeddings.position_embeddings", 1, places + 2, width)
    yield from cut(config, places, channels=1)
    yield from layers(config, places + 2, biases=biases_of(config), fused=False)
    yield from norm("layernorm", width, places + 2)
    if head(config):
        yield from norm("classifier.layernorm", width, 1)
    yield from classifier(config, width)


def yolos(config: Config) -> Steps:
    """Give YOLOS's steps: tokens that look for objects stand among the patches."""
    rows, columns = grid(config)
    width, asked = width_of(config), config.count("num_detection_tokens", default=100)
    places = rows * columns + asked + 1
    yield table("embeddings.cls_token", 1, 1 + asked, width)
    yield table("embeddings.position_embeddings", 1, places, width)
    yield from cut(config, rows * columns)
    depth = config.count(*LAYERS, default=_LAYERS)
    if config.flag("use_mid_position_embeddings", True):
        yield table("embeddings.mid_position_embeddings", depth - 1, 1, places, width)
    yield from layers(config, places, biases=biases_of(config))
    yield from norm("layernorm", width, places)
    if not head(config):
        yield from linear("pooler.dense", width, width, 1)
        return
    for name, told in (("class_labels_classifier", labels(config) + 1), ("bbox_predictor", 4)):
        for layer, outputs in enumerate((width, width, told)):
            yield from linear(f"{name}.layers.{layer}", outputs, width, asked)


def registers(config: Config) -> Steps:
    """Give the steps of DINOv2 with registers."""
    (rows, columns), width = grid(config), width_of(config)
    kept, patches = config.count("num_register_tokens", default=4, least=0), rows * columns
    yield table("embeddings.cls_token", 1, 1, width)
    yield table("embeddings.mask_token", 1, width)
    yield table("embeddings.register_tokens", 1, kept, width)
    yield table("embeddings.position_embeddings", 1, patches + 1, width)
    yield from cut(config, patches)
    yield from scaled_layers(config, patches + 1 + kept)
    yield from norm("layernorm", width, patches + 1 + kept)
    yield from classifier(config, 2 * width)


def scaled_layers(config: Config, places: int) -> Steps:
    """Give DINOv2's layers: what each adds is scaled, its feed-forward may be gated."""
    width, heads = width_of(config), config.count("num_attention_heads", default=_HEADS)
    size = int(width * config.real("mlp_ratio", 4.0))
    biases = biases_of(config)
    for layer in range(config.count(*LAYERS, default=_LAYERS)):
        base = f"encoder.layers.{layer}"
        if config.flag("use_swiglu_ffn"):
            yield from _gated(base, width, (int(size * 2 / 3) + 7) // 8 * 8, places, heads, biases)
        else:
            yield from block(base, width, size, places, heads, biases)
        yield table(f"{base}.layer_scale1.lambda1", width)
        yield table(f"{base}.layer_scale2.lambda1", width)


def _gated(base: str, width: int, size: int, places: int, heads: int, biases: str) -> Steps:
    waiting = width * places
    yield from norm(f"{base}.before", width, places)
    seen = attention(base, width, places, heads, biases=biases)
    yield from beside(seen, waiting, SEQUENCE)
    yield from norm(f"{base}.after", width, places)
    first = linear(f"{base}.mlp.weights_in", 2 * size, width, places)
    yield from beside(first, waiting, SEQUENCE)
    yield passed(2 * size * places, size * places, size * places, form=ROWS)
    second = linear(f"{base}.mlp.weights_out", width, size, places)
    yield from beside(second, waiting, SEQUENCE)


def beit(config: Config) -> Steps:
    """Give BEiT's steps, with UPerNet's head where it names places."""
    (rows, columns), width = grid(config), width_of(config)
    places, heads = rows * columns + 1, config.count("num_attention_heads", default=_HEADS)
    distances = (2 * rows - 1) * (2 * columns - 1) + 3
    yield table("embeddings.cls_token", 1, 1, width)
    if config.flag("use_mask_token"):
        yield table("embeddings.mask_token", 1, 1, width)
    if config.flag("use_absolute_position_embeddings"):
        yield table("embeddings.position_embeddings", 1, places, width)
    yield from cut(config, rows * columns)
    if config.flag("use_shared_relative_position_bias"):
        yield table("embeddings.relative_position_bias", distances, heads)
    depth = config.count(*LAYERS, default=_LAYERS)
    yield from layers(config, places, biases="qvo", fused=False)
    for layer in range(depth):
        if config.real("layer_scale_init_value", 0.1) > 0:
            yield table(f"encoder.layers.{layer}.layer_scale", 2, width)
        if config.flag("use_relative_position_bias"):
            yield table(
                f"encoder.layers.{layer}.relative_position_bias.embedding", distances, heads
            )
    if head(config) == "SemanticSegmentation":
        yield from _upernet(config, width, rows)
    if not config.flag("use_mean_pooling", True) or head(config) != "SemanticSegmentation":
        yield from norm("layernorm", width, places)
    yield from classifier(config, width)


def _upernet(config: Config, width: int, side: int) -> Steps:
    """Four maps of one transformer at four sizes, joined from the smallest to the largest."""
    maps = [4 * side, 2 * side, side, side // 2]
    kept = sum(width * each**2 for each in maps)
    yield from upwards("fpn.fpn1.conv_transpose1", width, 2, side)
    yield from norm("fpn.fpn1.normalization", width, (2 * side) ** 2)
    yield from upwards("fpn.fpn1.conv_transpose2", width, 2, 2 * side)
    yield from beside(upwards("fpn.fpn2", width, 2, side), width * maps[0] ** 2)
    scales = numbers(config, "pool_scales", (1, 2, 3, 6))
    for number, scale in enumerate(scales):
        pooled = convolution(
            f"decode_head.psp_modules.blocks.{number}.conv", width, width, 1, scale
        )
        yield from beside(pooled, kept)
    wide = width * (1 + len(scales))
    yield from beside(convolution("decode_head.psp_bottleneck", width, wide, 3, maps[3]), kept)
    for number, each in enumerate(maps[:3]):
        for name, kernel in (("lateral_convs", 1), ("fpn_convs", 3)):
            step = convolution(f"decode_head.{name}.{number}", width, width, kernel, each)
            yield from beside(step, kept)
    large = width * maps[0] ** 2
    yield passed(len(maps) * large, len(maps) * large)
    yield from convolution("decode_head.fpn_bottleneck", width, len(maps) * width, 3, maps[0])
    yield from convolution(
        "decode_head.classifier", labels(config), width, 1, maps[0], bias=True, norm=False
    )
    if config.flag("use_auxiliary_head", True):
        yield from _auxiliary(config, width)


def _auxiliary(config: Config, width: int) -> Steps:
    """The head that only training uses: it has weights in the file and takes no time."""
    channels = config.count("auxiliary_channels", default=256)
    for number in range(config.count("auxiliary_num_convs", default=1, least=0)):
        inputs = channels if number else width
        yield table(f"auxiliary_head.convs.{number}.weight", channels, inputs * 9)
        yield table(f"auxiliary_head.convs.{number}.norm", 2, channels)
    if config.flag("auxiliary_concat_input"):
        yield table("auxiliary_head.conv_cat.weight", channels, (width + channels) * 9)
        yield table("auxiliary_head.conv_cat.norm", 2, channels)
    yield table("auxiliary_head.classifier.weight", labels(config), channels)
    yield table("auxiliary_head.classifier.bias", labels(config))


def siglip(config: Config) -> Steps:
    """Give SigLIP's steps: one picture and one text, each with its transformer."""
    empty = Config({}, config.where)
    text = config.section("text_config") or empty
    vision = config.section("vision_config") or empty
    width, length = width_of(text), text.count("max_position_embeddings", default=64)
    words = text.count("vocab_size", default=32_000)
    yield table("text_model.embeddings.token_embedding.weight", words, width)
    yield table("text_model.embeddings.position_embedding.weight", length, width)
    yield from layers(text, length, "text_model.encoder.layers")
    yield from norm("text_model.final_layer_norm", width, length)
    shared = text.count("projection_size", default=width)
    yield from linear("text_model.head", shared, width, 1)
    fed = vision
    if config.has("image_size"):
        fed = Config({**vision.items(), "image_size": config.items()["image_size"]}, vision.where)
    yield from _siglip_picture(fed)
    yield table("logit_scale", 2)


def _siglip_picture(vision: Config) -> Steps:
    (rows, columns), width = grid(vision), width_of(vision)
    places = rows * columns
    yield table("vision_model.embeddings.position_embedding.weight", places, width)
    yield from cut(vision, places)
    yield from layers(vision, places, "vision_model.encoder.layers")
    yield from norm("vision_model.post_layernorm", width, places)
    if not vision.flag("vision_use_head", True):
        return
    heads = vision.count("num_attention_heads", default=_HEADS)
    base, size = "vision_model.head", vision.count("intermediate_size", default=_SIZE)
    yield table(f"{base}.embeddings.probe", 1, 1, width)
    yield from attention(f"{base}", width, 1, heads, keys=places, source=places)
    yield from norm(f"{base}.layernorm", width, 1)
    yield from feed_forward(base, width, size, 1)
