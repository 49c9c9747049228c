"""The stage that writes a GGUF file: llama.cpp's own converter, inside the `gguf` toolchain.

It reads the model lazily: a tensor is computed when it is written, and let go. The file is byte for
byte what `convert_hf_to_gguf.py` writes of a folder of this name.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeward.compiler.reference_model import load_tokenizer
from edgeward.compiler.stage_context import StageContext
from edgeward.compiler.tasks import task_spec
from edgeward.errors import SourceError, UnsupportedError
from edgeward.runtimes.bundle.gguf_header import GgufHeader, read_header

from .gguf_progress import growing
from .gguf_tokenizer_check import UNKNOWN, check_tokenizer, unknown_tokenizer
from .gguf_view import link_view, stored_type
from .onnx_assets import copy_assets

MODEL = "model.gguf"
_FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16"}


def convert(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write `model.gguf` and the `assets/` of a model.

    `floats` is the type of its weights (f32, f16, bf16), or `stored`: the one that they have, so
    that nothing is lost. Raises UnsupportedError for a model or tokenizer that the converter does
    not know, SourceError where the folder is not what its configuration says.
    """
    folder = context.inputs["source"]
    view = context.scratch / params["name"]
    link_view(folder, view, params["files"], params["extras"])
    floats = params["floats"] if params["floats"] != "stored" else stored_type(view)
    target = context.out / MODEL
    context.progress(0.0, "reading")
    with _heard_of_tokenizers() as warnings:
        _write(view, target, floats, context)
    header = read_header(target)
    check_tokenizer(header, view, warnings)
    tokenizer = load_tokenizer(folder) if task_spec(params["task"]).reads_text else None
    copy_assets(folder, context.out / "assets", params["files"], tokenizer)
    return {
        **_signature(header, params["task"]),
        "floats": floats,
        "architecture": header.architecture,
        "tokenizer": f"{header.text('tokenizer.ggml.model')} {header.text('tokenizer.ggml.pre')}",
        "summary": f"{header.architecture}, {len(header.tensors)} tensors, {floats}, "
        f"{target.stat().st_size / 2**20:.1f} MiB",
    }


def _write(view: Path, target: Path, floats: str, context: StageContext) -> None:
    """What convert_hf_to_gguf.py's main does."""
    import torch

    conversion = importlib.import_module("conversion")
    gguf = importlib.import_module("gguf")
    with torch.inference_mode(), _in_words(view):
        hparams = conversion.ModelBase.load_hparams(view, False)
        architecture = conversion.get_model_architecture(hparams, conversion.ModelType.TEXT)
        model_class = conversion.get_model_class(architecture)
        file_type = getattr(gguf.LlamaFileType, _FILE_TYPES[floats])
        model = model_class(view, file_type, target)
        model.prepare_tensors()
        model.prepare_metadata(vocab_only=False)
        writer = model.gguf_writer
        writer.write_header_to_file(path=model.fname_out)
        writer.write_kv_data_to_file()
        total = sum(tensor.nbytes for part in writer.tensors for tensor in part.values())
        with growing(context, target, total, "writing"):
            writer.write_tensors_to_file()
        writer.close()


@contextmanager
def _in_words(view: Path) -> Iterator[None]:
    """What the converter raises of a model that it does not know, or that is not whole."""
    try:
        yield
    except NotImplementedError as error:
        if UNKNOWN in str(error):
            raise unknown_tokenizer(str(error)) from error
        raise UnsupportedError(
            f"llama.cpp's converter does not know {view.name}", why=_first_line(error)
        ) from error
    except (KeyError, ValueError, TypeError, AssertionError, FileNotFoundError) as error:
        raise SourceError(
            f"llama.cpp's converter cannot convert {view.name}",
            why=f"{type(error).__name__}: {_first_line(error)}",
        ) from error


@contextmanager
def _heard_of_tokenizers() -> Iterator[list[str]]:
    """Give what the converter warns of; it may go on where it should have stopped."""
    heard: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING:
                heard.append(record.getMessage())

    listener = Listener()
    logging.getLogger().addHandler(listener)
    try:
        yield heard
    finally:
        logging.getLogger().removeHandler(listener)


def _signature(header: GgufHeader, task: str) -> dict[str, Any]:
    """Inputs and outputs as the manifest lists them: the engine keeps its cache to itself."""
    axes = ["batch", "sequence"]
    ids = {"name": "input_ids", "dtype": "int64", "shape": axes}
    mask = {"name": "attention_mask", "dtype": "int64", "shape": axes}
    (output,) = task_spec(task).outputs
    generates = task_spec(task).generates
    tokens = header.array("tokenizer.ggml.tokens")
    width = header.number(f"{header.architecture}.embedding_length")
    size = (tokens.count if tokens else None) if generates else width
    if size is None:
        raise SourceError("The converted model tells neither its vocabulary nor its width")
    return {
        "inputs": [ids] if generates else [ids, mask],
        "outputs": [{"name": output, "dtype": "float32", "shape": [*axes, size]}],
    }


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else "it does not say why")[:500]
