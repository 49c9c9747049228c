"""The stage that merges an adapter into a model's weights, one tensor in memory at a time.

It leaves a model folder: every format takes it as its source, and the proof as the original.
Weights that the adapter changes are float32, the others stay as they were, bit for bit.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from edgeward.errors import SourceError, UsageError

from .adapter import (
    WEIGHTS,
    Adapter,
    Pair,
    adapter_digest,
    adapter_name,
    model_weights,
    read_adapter,
)
from .formats.base import Job, Stages
from .source import Source
from .stage_context import StageContext
from .stages import StageInput, StageSpec

ADAPTER, MERGE = "adapter", "merge-adapter"
ADAPTER_OPTIONS = frozenset({ADAPTER, MERGE})
_FOLDER = "model"
_YES = ("true", "yes", "1")
_PART = 8 << 20
_CHANGED_DTYPE = "F32"


@dataclass(frozen=True, slots=True)
class _Place:
    """A tensor in a file of weights: its bytes from `start`, `size` of them."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


def adapter_folder(job: Job) -> Path | None:
    """Return the folder of the adapter that was asked for; UsageError where there are several."""
    given = job.options.get(ADAPTER, ())
    if len(given) > 1:
        raise UsageError("A bundle has one adapter", why=", ".join(given)[:300])
    return Path(given[0]).expanduser() if given else None


def is_merged(job: Job) -> bool:
    """Whether the adapter goes into the weights; UsageError where there is none to merge."""
    wanted = job.options.get(MERGE, ())
    if wanted and wanted[-1].lower() not in (*_YES, "false", "no", "0"):
        raise UsageError(f"--{MERGE} is true or false", why=wanted[-1][:100])
    merged = bool(wanted) and wanted[-1].lower() in _YES
    if merged and adapter_folder(job) is None:
        raise UsageError(f"--{MERGE} needs --{ADAPTER}")
    return merged


def check_adapter(job: Job, *, separate: bool) -> None:
    """Refuse an adapter that cannot be used, before any work.

    `separate` tells whether the format holds an adapter beside the weights. Raises UsageError,
    SourceError and UnsupportedError.
    """
    folder, merged = adapter_folder(job), is_merged(job)
    if folder is None:
        return
    if not merged and not separate:
        raise UsageError(
            f"{job.recipe.format} has no adapters beside the weights",
            next=f"edgeward compile … --{ADAPTER} {folder} --{MERGE}",
        )
    read_adapter(folder, job.source.folder)


def adapted(job: Job, toolchain: str, stages: Stages) -> Job:
    """Return the job with its adapter merged into its source, or into what it is held against."""
    folder = adapter_folder(job)
    if folder is None:
        return job
    sha256 = read_adapter(folder, job.source.folder).sha256
    result = stages.run(_merge_stage(job.source, folder, sha256, toolchain))
    merged = result.as_input(_FOLDER)
    sizes = sum(path.stat().st_size for path in model_weights(merged.path))
    source = replace(job.source, folder=merged.path, digest=merged.digest, weight_bytes=sizes)
    return replace(job, source=source) if is_merged(job) else replace(job, original=source)


def adapter_options(job: Job) -> dict[str, str]:
    """Return what the manifest's recipe says of the job's adapter; nothing without one.

    The source may be the merged one already: the settings and the digest are the adapter's alone.
    """
    folder = adapter_folder(job)
    if folder is None:
        return {}
    return {
        "adapter": adapter_name(folder),
        "adapter_sha256": adapter_digest(folder),
        "adapter_use": "merged" if is_merged(job) else "separate",
    }


def _merge_stage(source: Source, folder: Path, sha256: str, toolchain: str) -> StageSpec:
    return StageSpec(
        name="merge",
        call="edgeward.compiler.adapter_merge:merge",
        version=1,
        inputs={
            "source": StageInput(source.folder, source.digest),
            "adapter": StageInput(folder, sha256),
        },
        params={"files": list(source.files)},
        toolchain=toolchain,
    )


def merge(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write the folder `model`: the source's files, its weights changed by the adapter (a stage).

    Raises SourceError where a changed weight is not finite.
    """
    source, target = context.inputs["source"], context.out / _FOLDER
    adapter = read_adapter(context.inputs["adapter"], source)
    files = [*params["files"], "model.safetensors.index.json"]
    for name in (name for name in files if (source / name).is_file()):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
    shards = model_weights(source)
    with _Changes(adapter) as changes:
        for number, shard in enumerate(shards):
            context.progress(number / len(shards), shard.name)
            _write(shard, target / shard.name, changes)
    scales = sorted({round(pair.scale, 6) for pair in adapter.pairs})
    listed = ", ".join(f"{scale:g}" for scale in scales[:4])
    return {
        "changed": len(adapter.pairs),
        "summary": f"{len(adapter.pairs)} weights changed, scale {listed}",
    }


class _Changes:
    """What an adapter does to each weight, as torch computes it in float32."""

    def __init__(self, adapter: Adapter) -> None:
        from safetensors import safe_open

        self._pairs = {pair.tensor: pair for pair in adapter.pairs}
        self._transposed = adapter.transposed
        opener: Any = safe_open
        self._opened = opener(adapter.folder / WEIGHTS, framework="pt")

    def __enter__(self) -> _Changes:
        """Return itself."""
        self._opened.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Close the adapter's file."""
        self._opened.__exit__(*error)

    def __contains__(self, name: str) -> bool:
        """Whether a weight is changed."""
        return name in self._pairs

    def changed(self, name: str, place: _Place, data: bytes) -> bytes:
        """Return the weight in float32; SourceError where a number of it is not finite."""
        import torch

        pair = self._pairs[name]
        dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[place.dtype]
        weight = torch.frombuffer(bytearray(data), dtype=dtype).reshape(place.shape).float()
        weight = self._merged(weight, pair)
        if not torch.isfinite(weight).all():
            raise SourceError("The adapter makes a weight that is not finite", why=name[:200])
        return bytes(weight.contiguous().numpy().astype("<f4", copy=False).tobytes())

    def _merged(self, weight: Any, pair: Pair) -> Any:
        import torch

        change = (self._factor(pair.b) @ self._factor(pair.a)) * pair.scale
        changed = weight + (change.T if self._transposed or pair.embedding else change)
        if not pair.magnitude:
            return changed
        lengths = torch.linalg.norm(changed, dim=1)
        return changed * (self._factor(pair.magnitude) / lengths).unsqueeze(1)

    def _factor(self, name: str) -> Any:
        return self._opened.get_tensor(name).float()


def _write(source: Path, target: Path, changes: _Changes) -> None:
    """Copy a file of weights, those that are changed in float32."""
    with source.open("rb") as opened, target.open("wb") as file:
        places = _places(opened)
        file.write(_header(places, changes))
        for name, place in places.items():
            opened.seek(place.start)
            if name in changes:
                file.write(changes.changed(name, place, opened.read(place.size)))
            else:
                _copy(opened, file, place.size)


def _places(file: BinaryIO) -> dict[str, _Place]:
    """Return the tensors in the order of their bytes.

    See https://github.com/huggingface/safetensors#format; the file was checked by its library.
    """
    (length,) = struct.unpack("<Q", file.read(8))
    header = json.loads(file.read(length))
    places = {
        name: _Place(
            told["dtype"],
            tuple(told["shape"]),
            8 + length + told["data_offsets"][0],
            told["data_offsets"][1] - told["data_offsets"][0],
        )
        for name, told in header.items()
        if name != "__metadata__"
    }
    return dict(sorted(places.items(), key=lambda item: item[1].start))


def _header(places: Mapping[str, _Place], changes: _Changes) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, place in places.items():
        dtype = _CHANGED_DTYPE if name in changes else place.dtype
        size = 4 * prod(place.shape) if name in changes else place.size
        header[name] = {
            "dtype": dtype,
            "shape": list(place.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    left = size
    while left and (part := source.read(min(left, _PART))):
        target.write(part)
        left -= len(part)
