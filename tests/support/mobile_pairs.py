"""Which tiny models the mobile formats are tried on: whole compiles, and front ends alone."""

from __future__ import annotations

from edgeward.compiler.mobile.coverage import front_pairs

# Compiled in both formats, as they are and in int8.
PAIRS = (
    ("fill-mask", "albert"),
    ("text-classification", "bert"),
    ("text-classification", "deberta"),
    ("token-classification", "deberta-v2"),
    ("text-classification", "distilbert"),
    ("text-classification", "ibert"),
    ("text-classification", "modernbert"),
    ("fill-mask", "mpnet"),
    ("text-classification", "rembert"),
    ("question-answering", "roberta"),
    ("text-classification", "squeezebert"),
    ("token-classification", "xlm-roberta"),
    ("image-classification", "convnext"),
    ("image-feature-extraction", "dinov2"),
    ("image-classification", "mobilenet_v2"),
    ("image-classification", "deit"),
    ("image-classification", "regnet"),
    ("image-classification", "resnet"),
    ("semantic-segmentation", "segformer"),
    ("image-classification", "swin"),
    ("image-classification", "vit"),
    ("object-detection", "detr"),
    ("object-detection", "yolos"),
    ("audio-classification", "audio-spectrogram-transformer"),
    ("ctc", "wav2vec2"),
    ("zero-shot-image-classification", "clip"),
)
# Of those of front ends alone, whose bodies are those of BERT, RoBERTa, DINOv2 or ConvNeXt.
AKIN = {
    *("camembert", "convnextv2", "data2vec-text", "dinov2_with_registers", "electra", "ernie"),
    *("megatron-bert", "roberta-prelayernorm", "splinter", "xlm-roberta-xl"),
}


def front_only() -> list[tuple[str, str]]:
    """Return a pair for each model type that is not compiled, its body where it has one."""
    compiled = {model_type for _, model_type in PAIRS}
    first: dict[str, tuple[str, str]] = {}
    for task, model_type in front_pairs():
        if model_type not in compiled:
            first.setdefault(model_type, (task, model_type))
    return sorted(first.values())
