"""A LoRA adapter as a GGUF file beside the model, through llama.cpp's own converter.

Runs inside the `gguf` toolchain. llama.cpp scales a pair by alpha over its rank and knows no other
way: what an adapter has in another one (rsLoRA, alphas of their own) goes into its matrices first.
"""

from __future__ import annotations

import json
import os
import runpy
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeward.compiler.adapter import (
    CONFIG,
    WEIGHTS,
    Adapter,
    adapter_digest,
    adapter_name,
    read_adapter,
)
from edgeward.compiler.source import Source
from edgeward.compiler.stage_context import StageContext
from edgeward.compiler.stages import StageInput, StageSpec
from edgeward.errors import StageError, UnsupportedError
from edgeward.runtimes.bundle.gguf_header import read_header
from edgeward.runtimes.engines.llama_adapter import ROLE

MODEL_NAME, ADAPTER_NAME = "model.gguf", f"{ROLE}.gguf"
_CONVERTER = "convert_lora_to_gguf"
_FACTOR_A, _FACTOR_B = ".lora_a", ".lora_b"


def adapter_file(base: str, folder: Path) -> str:
    """Return the adapter's name in the bundle by the naming convention of GGUF."""
    return f"{base}-{adapter_name(folder)}-F32-LoRA.gguf"


def check_separate(adapter: Adapter) -> None:
    """Raise UnsupportedError for what a GGUF adapter cannot say."""
    strange = []
    if adapter.transposed:
        strange.append("layers stored the other way round (fan_in_fan_out)")
    if any(pair.embedding for pair in adapter.pairs):
        strange.append("an embedding")
    if any(pair.magnitude for pair in adapter.pairs):
        strange.append("DoRA")
    if strange:
        raise UnsupportedError(
            "The adapter cannot lie beside a GGUF model",
            why=f"it has {', '.join(strange)}",
            next="edgeward compile … --merge-adapter",
        )


def adapter_stage(source: Source, folder: Path, model: StageInput) -> StageSpec:
    """Return the stage that leaves `model.gguf` with the adapter as `adapter.gguf` beside it."""
    return StageSpec(
        name="adapter",
        call="edgeward.compiler.formats.gguf_adapter:convert",
        version=1,
        inputs={
            "source": StageInput(source.folder, source.digest),
            "adapter": StageInput(folder, adapter_digest(folder)),
            "model": model,
        },
        params={"name": adapter_name(folder)},
        toolchain="gguf",
    )


def convert(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write `adapter.gguf` and put the model beside it (a stage).

    Raises UnsupportedError where llama.cpp's converter has no place for one of the weights that it
    changes, StageError where what it wrote is not whole.
    """
    source = context.inputs["source"]
    adapter = read_adapter(context.inputs["adapter"], source)
    check_separate(adapter)
    # The converter names the adapter by its folder.
    plain = context.scratch / params["name"]
    _write_plain(adapter, plain)
    target = context.out / ADAPTER_NAME
    context.progress(0.3, "llama.cpp's converter")
    _run_converter(plain, source, target)
    names = [tensor.name for tensor in read_header(target).tensors]
    pairs = sum(name.endswith(_FACTOR_A) for name in names)
    if not pairs or pairs != sum(name.endswith(_FACTOR_B) for name in names):
        raise StageError("llama.cpp's converter wrote no whole adapter", why=", ".join(names[:5]))
    place_beside(context.inputs["model"], context.out / MODEL_NAME)
    return {"pairs": pairs, "summary": f"{adapter_name(plain)}, {pairs} weights changed"}


def place_beside(path: Path, target: Path) -> None:
    """Put a file where a stage leaves it, without a copy where the disk allows that."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


def _write_plain(adapter: Adapter, folder: Path) -> None:
    """Write the adapter so that every scale is alpha over rank; its bytes where they are already.

    The settings are the two that the converter reads: nothing else of them reaches it.
    """
    from safetensors.torch import load_file, save_file

    folder.mkdir(parents=True)
    settings = {"lora_alpha": adapter.alpha, "peft_type": "LORA"}
    (folder / CONFIG).write_text(json.dumps(settings), encoding="utf-8")
    if adapter.is_plain:
        shutil.copyfile(adapter.folder / WEIGHTS, folder / WEIGHTS)
        return
    tensors = load_file(adapter.folder / WEIGHTS)
    for pair in adapter.pairs:
        tensors[pair.b] = tensors[pair.b].float() * (pair.scale * pair.rank / adapter.alpha)
    save_file(tensors, folder / WEIGHTS)


def _run_converter(adapter: Path, base: Path, target: Path) -> None:
    """Run the converter's own program, float32 as it does by default."""
    arguments = [_CONVERTER, str(adapter), "--base", str(base), "--outfile", str(target)]
    try:
        with _arguments(arguments):
            runpy.run_module(_CONVERTER, run_name="__main__")
    except SystemExit as stopped:
        if stopped.code:
            raise UnsupportedError(
                "llama.cpp's converter refuses the adapter",
                why="its log says which weight it has no place for",
                next="edgeward compile … --merge-adapter",
            ) from None
    except (ValueError, KeyError, NotImplementedError, AssertionError) as error:
        raise UnsupportedError(
            "llama.cpp's converter has no place for a weight of the adapter",
            why=str(error)[:300] or type(error).__name__,
            next="edgeward compile … --merge-adapter",
        ) from None


@contextmanager
def _arguments(arguments: list[str]) -> Iterator[None]:
    before = sys.argv
    sys.argv = arguments
    try:
        yield
    finally:
        sys.argv = before
