"""The stage that tells what rounding each column of a GGUF file's weights would cost.

Runs inside the `gguf` toolchain: figures of the torch model get the names of the file's tensors.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeward.compiler.reference_model import load_model, load_tokenizer
from edgeward.compiler.stage_context import StageContext
from edgeward.compiler.tasks import task_spec
from edgeward.errors import UnsupportedError
from edgeward.runtimes.tasks.generation import context_limit
from edgeward.runtimes.tasks.pooling import read_json

from .gguf_gradients import column_costs

COSTS = "costs.safetensors"
WINDOW, MOST_WINDOWS = 256, 64
_EXPERTS = re.compile(r"(.*\.(\d+)\..*experts)\.(gate_up_proj|down_proj|gate_proj|up_proj)$")
_EXPERT_TENSORS = {
    "gate_up_proj": ("ffn_gate_exps", "ffn_up_exps"),
    "gate_proj": ("ffn_gate_exps",),
    "up_proj": ("ffn_up_exps",),
    "down_proj": ("ffn_down_exps",),
}


def measure(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write `costs.safetensors`: (experts, columns) float32 by the tensor's name."""
    from safetensors.numpy import save_file

    folder = context.inputs["source"]
    model = load_model(folder, task_spec(params["task"]).auto_class)
    passages = _passages(folder, params["texts"])
    costs = column_costs(context, model, passages, params["seed"])
    names = TensorNames(folder)
    named = {name: figures for own, figures in costs.items() for name in names.of(own)}
    save_file(named, context.out / COSTS)
    tokens = sum(len(ids) for ids in passages)
    return {
        "tokens": tokens,
        "summary": f"{len(named)} weights, {len(passages)} passages of {tokens} tokens",
    }


class TensorNames:
    """What the converter calls each parameter."""

    def __init__(self, folder: Path) -> None:
        gguf, conversion = importlib.import_module("gguf"), importlib.import_module("conversion")
        hyper = conversion.ModelBase.load_hparams(folder, False)
        architecture = conversion.get_model_architecture(hyper, conversion.ModelType.TEXT)
        model_class = conversion.get_model_class(architecture)
        model = model_class(folder, gguf.LlamaFileType.ALL_F32, Path("unwritten.gguf"))
        self._map = model.tensor_map

    def of(self, parameter: str) -> list[str]:
        """Return the GGUF names of a parameter, several where the file takes it apart."""
        experts = _EXPERTS.match(parameter)
        if experts:
            return [f"blk.{experts[2]}.{name}.weight" for name in _EXPERT_TENSORS[experts[3]]]
        for name in (parameter, re.sub(r"^[a-z_]+\.", "", parameter), f"model.{parameter}"):
            found = self._map.get_name(name, try_suffixes=(".weight",))
            if found:
                return [str(found)]
        return []


def _passages(folder: Path, texts: list[str]) -> list[list[int]]:
    ids = list(load_tokenizer(folder)(" ".join(texts))["input_ids"])
    limit = context_limit(folder, read_json(folder / "config.json")) or WINDOW
    length = min(limit, WINDOW)
    starts = range(0, len(ids), length)
    found = [ids[at : at + length] for at in starts][:MOST_WINDOWS]
    kept = [passage for passage in found if len(passage) > 1]
    if not kept:
        raise UnsupportedError("The calibration texts have no two tokens")
    return kept
