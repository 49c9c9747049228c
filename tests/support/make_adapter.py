"""Writes random LoRA adapters as PEFT saves them, for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from edgeward.compiler.adapter import model_weights

LLAMA_MODULES = ("q_proj", "v_proj", "gate_proj", "down_proj")


def make_adapter(
    folder: Path,
    model: Path,
    modules: Sequence[str] = LLAMA_MODULES,
    rank: int = 4,
    strength: float = 0.5,
    **settings: Any,
) -> Path:
    """Write an adapter for every linear layer of `model` whose name ends with one of `modules`.

    Its changes are `strength` times as large as the weights.
    """
    folder.mkdir(parents=True)
    generator = np.random.default_rng(7)
    tensors = {}
    wanted = tuple(f"{module}.weight" for module in modules)
    for path in model_weights(model):
        weights = {k: v for k, v in load_file(path).items() if k.endswith(wanted)}
        for name, stored in sorted(weights.items()):
            weight = stored.astype(np.float32)
            a = generator.standard_normal((rank, weight.shape[1]))
            b = generator.standard_normal((weight.shape[0], rank))
            b *= strength * weight.std() / np.sqrt(rank)
            prefix = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{prefix}.lora_A.weight"] = a.astype(np.float32)
            tensors[f"{prefix}.lora_B.weight"] = b.astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "somebody/some-model",
        "bias": "none",
        "fan_in_fan_out": False,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "r": rank,
        "target_modules": list(modules),
        "use_dora": False,
        "use_rslora": False,
        **settings,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1))
    return folder
