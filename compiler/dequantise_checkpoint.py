"""The stage that writes a compressed checkpoint in floats: numpy alone, one tensor in memory.

What was compressed becomes float32, everything else stays as it is stored.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from functools import partial
from typing import Any

from edgeward.errors import SourceError

from .safetensors_read import read_stored
from .safetensors_stream import Planned, write_sharded
from .source_compressed import open_checkpoint, quantisation_settings, restorations
from .stage_context import StageContext

_STALE = ("quantization_config", "compression_config")


def dequantise(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write the folder: weights, a configuration without the compression, the small files."""
    folder = context.inputs["source"]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    settings = quantisation_settings(folder, config)
    if settings is None:
        raise SourceError(f"{folder} is not compressed", why="it was when this began")
    paths = [folder / name for name in params["weights"]]
    restored, kept = restorations(open_checkpoint(folder, settings, paths))
    planned = [Planned(one.name, "F32", one.shape, one.make) for one in restored]
    planned += [Planned(one.name, one.dtype, one.shape, partial(read_stored, one)) for one in kept]

    def told(count: int, name: str) -> None:
        context.progress(count / len(planned), name)

    try:
        write_sharded(context.out, planned, done=told)
    except (ValueError, IndexError) as error:
        raise SourceError(f"{folder} cannot be dequantised", why=str(error)[:300]) from error
    for name in params["files"]:
        (context.out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, context.out / name)
    plain = {key: value for key, value in config.items() if key not in _STALE}
    plain.pop("torch_dtype", None)
    text = json.dumps({**plain, "dtype": "float32"}, indent=1, ensure_ascii=False)
    (context.out / "config.json").write_text(text + "\n", encoding="utf-8")
    return {"summary": f"{len(restored)} weights dequantised, {len(kept)} tensors kept"}
