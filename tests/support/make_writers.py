"""Writes tiny random encoders with a decoder; run with the `onnx` toolchain's Python.

usage: make_writers.py FOLDER [MODEL_TYPE...]. Each lies in FOLDER/MODEL_TYPE: two layers a side of
width 64, weights of unit scale as in make_encoders.py, the tokenizer of make_decoders.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from make_decoders import CONTEXT, write_tokenizer
from make_heads import write
from transformers import AutoConfig

SIZES = {
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "max_position_embeddings": CONTEXT,
}
T5 = {
    "d_model": 64,
    "d_kv": 16,
    "d_ff": 128,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
}
# Model type: settings of its configuration; the others have SIZES.
WRITERS: dict[str, dict[str, Any]] = {
    "longt5": {**T5, "local_radius": 7},
    "mt5": T5,
    "pegasus_x": {**SIZES, "block_size": 16, "num_global_tokens": 4},
    "t5": T5,
    "umt5": T5,
    "whisper": {**SIZES, "max_source_positions": 100, "max_target_positions": 64},
}
# Two seconds of sound, in frames of ten milliseconds.
HEARS = {
    "feature_extractor_type": "WhisperFeatureExtractor",
    "feature_size": 80,
    "sampling_rate": 16_000,
    "n_fft": 400,
    "hop_length": 160,
    "chunk_length": 2,
    "padding_value": 0.0,
}
FORCED = {"mbart": {"forced_bos_token_id": 7}, "bart": {"forced_bos_token_id": 1}}


def write_writer(folder: Path, model_type: str) -> None:
    """Write one model."""
    folder.mkdir(parents=True)
    ids = {**write_tokenizer(folder), "decoder_start_token_id": 2}
    speech = model_type == "whisper"
    if speech:
        (folder / "preprocessor_config.json").write_text(json.dumps(HEARS))
    settings = {**WRITERS.get(model_type, SIZES), **FORCED.get(model_type, {})}
    config = AutoConfig.for_model(model_type, **{**settings, **ids})
    write(folder, "AutoModelForSpeechSeq2Seq" if speech else "AutoModelForSeq2SeqLM", config)


if __name__ == "__main__":
    for wanted in sys.argv[2:]:
        write_writer(Path(sys.argv[1]) / wanted, wanted)
