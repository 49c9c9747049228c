"""Makes a checkpoint for TensorRT-LLM with ModelOpt; runs inside the `modelopt` toolchain.

https://nvidia.github.io/Model-Optimizer/deployment/3_unified_hf.html
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from edgeward.compiler.reference_model import load_tokenizer
from edgeward.compiler.stage_context import StageContext
from edgeward.errors import UnsupportedError

from .compressed_calibration import token_samples
from .compressed_checkpoint import report, write_checkpoint
from .compressed_layers import MAX_SHARD, group_of, load_stored
from .compressed_schemes import SCHEMES


def compress(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write `assets/` with hf_quant_config.json, as TensorRT-LLM loads it.

    Raises UnsupportedError where a layer cannot be divided into groups.
    """
    import modelopt.torch.quantization as mtq
    import torch
    from modelopt.torch.export import export_hf_checkpoint

    folder, scheme = context.inputs["source"], SCHEMES[params["precision"]]
    context.progress(None, "loading")
    model, kept = load_stored(folder)
    group = group_of(model, kept, scheme, params.get("group_size"))
    samples = token_samples(folder, load_tokenizer(folder), params["texts"], params["tokens"])

    def calibrate(quantised: Any) -> None:
        with torch.inference_mode():
            for number, sample in enumerate(samples):
                context.progress(number / len(samples), f"sample {number + 1} of {len(samples)}")
                quantised(**sample)

    mtq.quantize(model, _settings(mtq, scheme.modelopt, group), forward_loop=calibrate)
    context.progress(0.95, "writing")
    saved = context.scratch / "saved"
    try:
        export_hf_checkpoint(model, export_dir=saved, max_shard_size=MAX_SHARD)
    except NotImplementedError as error:
        raise UnsupportedError(
            f"ModelOpt does not write {params['precision']} of this model", why=str(error)[:300]
        ) from error
    write_checkpoint(folder, saved, context.out / "assets", params["files"])
    return report(context.out / "assets", params, group, samples)


def _settings(mtq: Any, name: str, group: int | None) -> dict[str, Any]:
    """ModelOpt's own configuration, with the group that divides every layer."""
    settings: dict[str, Any] = copy.deepcopy(getattr(mtq, name))
    for rule in settings["quant_cfg"]:
        sizes = (rule.get("cfg") or {}).get("block_sizes")
        if sizes and group is not None:
            sizes[-1] = group
    return settings
