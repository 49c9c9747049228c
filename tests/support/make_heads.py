"""Writes tiny random models of every task; run with the `onnx` toolchain's Python.

usage: make_heads.py FOLDER. Each lies in FOLDER/TASK/MODEL_TYPE, weights of unit scale as in
make_encoders.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from make_encoders import ENCODERS, SIZES, scale, write_tokenizer
from transformers import AutoConfig, AutoModel

LABELS = {"num_labels": 5}
TEXT_HEADS = {
    "fill-mask": "AutoModelForMaskedLM",
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
}
# Answers only where its own question token stands.
HEADLESS = {"splinter"}
SIDE = {"image_size": 64}
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VIT = {**SMALL, **SIDE, "intermediate_size": 64, "patch_size": 16}
STAGES = {"hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 1, 1]}
SWIN = {**SIDE, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}
SEGFORMER = {
    "hidden_sizes": [16, 16, 32, 32],
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 2, 2, 4],
    "decoder_hidden_size": 32,
}
MOBILEVIT = {
    **SIDE,
    "hidden_sizes": [24, 32, 40],
    "neck_hidden_sizes": [8, 16, 24, 32, 40, 48, 64],
    "num_attention_heads": 2,
}
# Model type: settings of its configuration.
VISION: dict[str, dict[str, Any]] = {
    "beit": {**VIT, "out_indices": [1, 2, 3, 4], "num_hidden_layers": 4},
    "convnext": STAGES,
    "convnextv2": STAGES,
    "deit": VIT,
    "dinov2": {**VIT, "mlp_ratio": 2},
    "dinov2_with_registers": {**VIT, "mlp_ratio": 2},
    "mobilenet_v2": {**SIDE, "depth_multiplier": 0.35},
    "mobilevit": MOBILEVIT,
    "regnet": {"embedding_size": 8, **STAGES, "groups_width": 8},
    "resnet": {"embedding_size": 8, **STAGES},
    "segformer": SEGFORMER,
    "swin": SWIN,
    "swinv2": SWIN,
    "vit": VIT,
}
BACKBONE = {"backbone": None, "use_timm_backbone": False, "use_pretrained_backbone": False}
DETR = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "num_queries": 8,
}
DETECTION: dict[str, dict[str, Any]] = {
    "detr": DETR,
    "yolos": {**VIT, "image_size": [64, 64], "num_detection_tokens": 8},
}
DEPTH: dict[str, dict[str, Any]] = {
    "dpt": {
        **VIT,
        "num_hidden_layers": 4,
        "backbone_out_indices": [0, 1, 2, 3],
        "neck_hidden_sizes": [16, 16, 32, 32],
        "fusion_hidden_size": 16,
    },
    "depth_anything": {
        "patch_size": 14,
        "reassemble_hidden_size": 32,
        "neck_hidden_sizes": [8, 8, 16, 16],
        "fusion_hidden_size": 16,
        "head_hidden_size": 8,
    },
    "glpn": {**SEGFORMER, "decoder_hidden_size": 16},
}
SPEECH_SIZES = {
    **SMALL,
    "intermediate_size": 64,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 16,
    "mask_time_prob": 0.0,
    "vocab_size": 32,
}
SPEECH = {"hubert": SPEECH_SIZES, "wav2vec2": SPEECH_SIZES, "wavlm": SPEECH_SIZES}
SPECTROGRAM = {**SMALL, "intermediate_size": 64, "max_length": 64, "num_mel_bins": 32}


def write(folder: Path, auto_class: str, config: Any) -> None:
    """Write one model with its configuration."""
    torch.manual_seed(0)
    model = getattr(transformers, auto_class).from_config(config, dtype=torch.float32)
    scale(model)
    model.save_pretrained(folder)


def text_heads(root: Path) -> None:
    """Every head on every text encoder that has it: the first on two layers, others on one."""
    for model_type, (_, _, settings) in ENCODERS.items():
        layers = {}
        for task, auto_class in TEXT_HEADS.items():
            headed = getattr(transformers, auto_class)._model_mapping
            if model_type in HEADLESS or type(AutoConfig.for_model(model_type)) not in headed:
                continue
            folder = root / task / model_type
            folder.mkdir(parents=True)
            ids = write_tokenizer(folder, model_type)
            labels = {} if task == "question-answering" else LABELS
            sizes = {**SIZES, **settings, **layers}
            write(folder, auto_class, AutoConfig.for_model(model_type, **sizes, **ids, **labels))
            layers = {"num_hidden_layers": 1}


def images(root: Path) -> None:
    """Backbones, classifiers, segmenters, detectors, depth."""
    heads = {
        "image-feature-extraction": "AutoModel",
        "image-classification": "AutoModelForImageClassification",
        "semantic-segmentation": "AutoModelForSemanticSegmentation",
    }
    for model_type, settings in VISION.items():
        config = AutoConfig.for_model(model_type, **settings, **LABELS)
        for task, auto_class in heads.items():
            if type(config) in getattr(transformers, auto_class)._model_mapping:
                write(root / task / model_type, auto_class, config)
    for model_type, settings in DETECTION.items():
        more = {}
        if model_type == "detr":
            more = {
                **BACKBONE,
                "backbone_config": AutoConfig.for_model(
                    "resnet", embedding_size=8, **STAGES, out_features=["stage4"]
                ),
            }
        config = AutoConfig.for_model(model_type, **settings, **more, **LABELS)
        write(root / "object-detection" / model_type, "AutoModelForObjectDetection", config)
    for model_type, settings in DEPTH.items():
        more = {}
        if model_type == "depth_anything":
            backbone = {**VIT, "patch_size": 14, "image_size": 70, "num_hidden_layers": 4}
            more = {
                "backbone_config": AutoConfig.for_model(
                    "dinov2",
                    **{**backbone, "mlp_ratio": 2},
                    out_indices=[1, 2, 3, 4],
                    reshape_hidden_states=False,
                )
            }
        config = AutoConfig.for_model(model_type, **settings, **more)
        folder = root / "depth-estimation" / model_type
        write(folder, "AutoModelForDepthEstimation", config)
        side = 70 if model_type == "depth_anything" else 64
        _processor(folder, side)
    for folder in root.glob("*-*/*"):
        is_picture = folder.parent.name.startswith(("image", "semantic", "object"))
        if is_picture:
            _processor(folder, 64)


def _processor(folder: Path, side: int) -> None:
    size = {"height": side, "width": side}
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": size}))


def sounds(root: Path) -> None:
    """Speech encoders with both heads, and a spectrogram transformer."""
    for model_type, settings in SPEECH.items():
        config = AutoConfig.for_model(model_type, **settings, **LABELS)
        write(root / "audio-classification" / model_type, "AutoModelForAudioClassification", config)
        write(root / "ctc" / model_type, "AutoModelForCTC", config)
    config = AutoConfig.for_model("audio-spectrogram-transformer", **SPECTROGRAM, **LABELS)
    folder = root / "audio-classification" / "audio-spectrogram-transformer"
    write(folder, "AutoModelForAudioClassification", config)


def pictures_with_texts(root: Path) -> None:
    """CLIP and SigLIP."""
    for model_type in ("clip", "siglip"):
        folder = root / "zero-shot-image-classification" / model_type
        folder.mkdir(parents=True)
        ids = write_tokenizer(folder, "bert")
        text = {**SMALL, "intermediate_size": 64, "max_position_embeddings": 24, **ids}
        ends = {"eos_token_id": ids["eos_token_id"], "bos_token_id": ids["bos_token_id"]}
        config = AutoConfig.for_model(
            model_type, text_config={**text, **ends}, vision_config=VIT, projection_dim=16
        )
        torch.manual_seed(0)
        model = AutoModel.from_config(config, dtype=torch.float32)
        scale(model)
        model.save_pretrained(folder)
        _processor(folder, 64)


def main() -> None:
    """Write all of them."""
    root = Path(sys.argv[1])
    for part in (text_heads, images, sounds, pictures_with_texts):
        part(root)


if __name__ == "__main__":
    main()
