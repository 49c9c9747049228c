"""transformers as an engine: compressed checkpoints decode on the processor, to prove them.

Weights are what they are rounded to, and what a GPU's kernels round of the activations is rounded
here too; the arithmetic between is float. Accuracy shows, speed does not. compressed-tensors
does both for what llm-compressor wrote; ModelOpt's checkpoints are read here
(`formats/compressed_modelopt_read.py`), since transformers loads them without an error and wrong.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import EngineError, UsageError
from edgeward.runtimes.bundle.manifest import EngineRef
from edgeward.runtimes.engines.base import EngineOptions, EngineSession, Tensor

Floats = NDArray[np.float32]
_INPUTS = ("input_ids", "attention_mask")
_INSTALL = "pip install torch 'transformers>=5.15,<5.18' 'compressed-tensors>=0.19,<0.20'"


def open_model(path: Path, options: EngineOptions) -> TorchDecoder:
    """Load the checkpoint that `path`, its weights or their index, belongs to.

    Raises EngineError where torch, transformers or compressed-tensors is not installed, or where
    they do not read it whole.
    """
    try:
        import compressed_tensors
        import torch
        import transformers
    except ImportError as error:
        raise EngineError(
            "compressed checkpoints are proved by transformers and compressed-tensors",
            why=str(error),
            next=_INSTALL,
        ) from None
    if options.threads:
        torch.set_num_threads(options.threads)
    method = _method(path.parent)
    if method == "modelopt":
        from .formats.compressed_modelopt_read import load_modelopt

        model, name = (
            load_modelopt(path.parent),
            "transformers, ModelOpt's numbers read by edgeward",
        )
    else:
        model, name = _load(path.parent), "transformers + compressed-tensors"
    version = f"{transformers.__version__} + {compressed_tensors.__version__}"
    return TorchDecoder(model, EngineRef(name=name, version=version, provider="CPU"))


def _method(folder: Path) -> str:
    """Who wrote the checkpoint; EngineError for what no quantiser that is known here wrote."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    stated = config.get("quantization_config") or {}
    method = str(stated.get("quant_method", "none"))
    if method in ("compressed-tensors", "modelopt") and "auto_map" not in config:
        return method
    raise EngineError(
        f"{folder} is not a compressed checkpoint", why=f"its quant_method is {method[:100]}"
    )


def _load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype="auto",
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(f"{folder} cannot be loaded", why=str(error)[:500]) from error
    wrong = sorted({*info["missing_keys"], *info["unexpected_keys"]})
    if wrong:
        raise EngineError(
            f"transformers does not read all of {folder}",
            why=f"{len(wrong)} weights without a place or a value: {wrong[0]}",
        )
    return model.eval()


class TorchDecoder:
    """A causal language model of transformers; it keeps the cache of each text itself."""

    inputs: Sequence[str] = _INPUTS
    outputs: Sequence[str] = ("logits",)
    parts: Mapping[str, EngineSession] = {}
    batched = True

    def __init__(self, model: Any, ref: EngineRef) -> None:
        self.ref, self.model = ref, model
        taken = inspect.signature(model.forward).parameters
        self.positions = "position_ids" in taken
        self.keeps_logits = "logits_to_keep" in taken

    def start(self, rows: int = 1) -> TorchState:
        """Return a state that has seen nothing, for a batch of `rows`."""
        del rows
        return TorchState(self)

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once, int64 (rows, tokens) in and logits (rows, tokens, vocabulary) out."""
        lacking = [name for name in _INPUTS if name not in inputs]
        if lacking:
            raise UsageError(f"The model needs {', '.join(lacking)}")
        return dict(zip(self.outputs, self.run_prepared(inputs, self.outputs), strict=True))

    def run_prepared(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Run on arrays that are known to fit."""
        del outputs
        ids, mask = (np.asarray(inputs[name], np.int64) for name in _INPUTS)
        return [self.start(len(ids)).step(ids, mask)]


class TorchState:
    """One sequence, or a batch of them, on its way through the model."""

    def __init__(self, decoder: TorchDecoder) -> None:
        self._decoder, self._cache = decoder, None
        self._seen = 0

    def next_logits(self, ids: Sequence[int]) -> Floats:
        """Add tokens and return the logits after the last, (vocabulary,)."""
        return np.asarray(self._run(ids, kept=1)[-1])

    def logits(self, ids: Sequence[int]) -> Floats:
        """Add tokens and return the logits after each, (sequence, vocabulary)."""
        return self._run(ids)

    def _run(self, ids: Sequence[int], kept: int = 0) -> Floats:
        mask = np.ones((1, self._seen + len(ids)), np.int64)
        return np.asarray(self.step(np.array([ids], np.int64), mask, kept)[0])

    def step(self, ids: Tensor, mask: Tensor, kept: int = 0) -> Floats:
        """Add tokens (rows, new) to every row: logits (rows, new or `kept`, vocabulary).

        `mask` (rows, seen and new) is 0 where a row is padded, on its left.
        """
        import torch

        seen = torch.from_numpy(np.asarray(mask, np.int64))
        given: dict[str, Any] = {
            "input_ids": torch.from_numpy(np.asarray(ids, np.int64)),
            "attention_mask": seen,
        }
        if self._decoder.positions:
            places = (seen.cumsum(dim=1) - 1).clamp(min=0)
            given["position_ids"] = places[:, -ids.shape[1] :]
        if self._decoder.keeps_logits and kept:
            given["logits_to_keep"] = kept
        with torch.inference_mode():
            found = self._decoder.model(
                **given, past_key_values=self._cache, use_cache=True, return_dict=True
            )
        self._cache = found.past_key_values
        self._seen += ids.shape[1]
        return np.asarray(found.logits[:, -kept:].float().numpy(), np.float32)
