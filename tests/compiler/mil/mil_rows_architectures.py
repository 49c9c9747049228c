"""Architectures whose conversions the evaluator has to run, by task."""

from __future__ import annotations

ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "feature-extraction": ("bert", "deberta-v2", "modernbert"),
    "image-classification": ("convnextv2", "mobilenet_v2", "swinv2"),
    "semantic-segmentation": ("segformer",),
    "depth-estimation": ("dpt",),
    "audio-classification": ("wav2vec2",),
}
