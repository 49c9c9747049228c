"""A model's folder as far as anything is checked before work begins: right in form, no sense."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

CONFIG = {"architectures": ["BertModel"], "model_type": "bert", "hidden_size": 8}


def write_model(folder: Path, **config: object) -> Path:
    """Write config, tokenizer and weights; `config` changes the first."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    (folder / "tokenizer.json").write_text("{}")
    save_file({"w": np.ones((4, 4), np.float32)}, folder / "model.safetensors")
    return folder
