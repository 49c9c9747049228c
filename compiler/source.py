"""The model to compile: a local folder or a hub id, checked and named by its content."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeward.errors import MissingError, SourceError, UnsupportedError
from edgeward.runtimes.bundle.canonical import JSON
from edgeward.runtimes.bundle.read import sha256_of
from edgeward.runtimes.tasks.pooling import required_files

from .architectures import GRAPHS, Coverage, task_of
from .source_compressed import read_compressed
from .source_gguf import gguf_files, read_gguf
from .source_packed import Packed
from .tasks import task_spec

_MAX_JSON = 64 << 20
_LFS_POINTER = b"version https://git-lfs"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?")
_PART = re.compile(r"-\d{5}-of-\d{5}$")
_LICENCE = re.compile(r"^license:\s*[\"']?([^\"'\n]+)", re.MULTILINE)
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spm.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)
_TRAVELLING = (
    "config.json",
    "generation_config.json",
    "chat_template.jinja",
    "preprocessor_config.json",
    "processor_config.json",
    *_TOKENIZER_FILES,
)
_FETCHED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "README.md"]


@dataclass(frozen=True, slots=True)
class Source:
    """A checked model folder.

    `packed` says what has to be dequantised before anything is made of it; `dequantised_from` is
    what the manifest says of one that was.
    """

    folder: Path
    id: str
    revision: str
    license: str
    architecture: str
    model_type: str
    task: str
    weights_sha256: str
    digest: str
    files: tuple[str, ...]
    weight_bytes: int
    packed: Packed | None = None
    dequantised_from: Mapping[str, JSON] | None = None


def open_source(
    model: str,
    *,
    revision: str | None = None,
    task: str | None = None,
    coverages: Sequence[Coverage] = (GRAPHS,),
) -> Source:
    """Find and check a model: `model` is a folder, a GGUF file, or a hub id that is downloaded.

    `coverages` are what each wanted format takes: all have to take it for the same task. Raises
    SourceError where it cannot be read, UnsupportedError where its configuration already tells that
    it cannot be compiled.
    """
    folder = Path(model).expanduser()
    if parts := gguf_files(folder):
        return _packed_source(read_gguf(parts), _gguf_name(folder), task, coverages)
    if folder.is_dir():
        return read_source(folder, folder.resolve().name, "", task, coverages)
    if _looks_like_a_path(model) or not _HUB_ID.fullmatch(model):
        raise SourceError(
            f"No model at {model}",
            why="there is no such folder, and it is not a hub id such as owner/name",
        )
    snapshot = _download(model, revision, ["config.json"])
    config = _read_config(snapshot)
    _task(*_architecture(config, snapshot), task, coverages)
    snapshot = _download(model, snapshot.name, _FETCHED)
    return read_source(snapshot, model, snapshot.name, task, coverages)


def read_source(
    folder: Path,
    name: str,
    revision: str,
    task: str | None = None,
    coverages: Sequence[Coverage] = (GRAPHS,),
) -> Source:
    """Check a model folder: configuration first, then the weights' headers, then digests."""
    config = _read_config(folder)
    model_type, architecture = _architecture(config, folder)
    embeds = (folder / "modules.json").is_file()
    chosen = _task(model_type, architecture, task, coverages, embeds=embeds)
    weights = _weights(folder)
    travelling = [name for name in _TRAVELLING if (folder / name).is_file()]
    files = sorted({*travelling, *required_files(folder)})
    _refuse_links_out(folder, files)
    has_tokenizer = any(name in files for name in ("tokenizer.json", *_TOKENIZER_FILES[4:]))
    if task_spec(chosen).reads_text and not has_tokenizer:
        raise SourceError(
            f"{folder} has no tokenizer", why="expected tokenizer.json or a vocabulary"
        )
    packed = read_compressed(folder, config, weights)
    weights_digest = _digest(folder, weights)
    if packed is not None:
        packed = replace(
            packed,
            sha256=weights_digest,
            beside_sha256=_digest(folder, files),
            files=tuple(name for name in files if name != "config.json"),
        )
    return Source(
        folder=folder,
        id=name,
        revision=revision,
        license=_licence(folder),
        architecture=architecture,
        model_type=model_type,
        task=chosen,
        weights_sha256=weights_digest,
        digest=hashlib.sha256((weights_digest + _digest(folder, files)).encode()).hexdigest(),
        files=tuple(files),
        weight_bytes=(
            sum((folder / name).stat().st_size for name in weights)
            if packed is None
            else packed.float_bytes
        ),
        packed=packed,
    )


def _packed_source(
    packed: Packed, name: str, task: str | None, coverages: Sequence[Coverage]
) -> Source:
    """What a GGUF model will be, from its header alone."""
    config = _read_config(packed.folder)
    model_type, architecture = _architecture(config, packed.folder)
    embeds = (packed.folder / "modules.json").is_file()
    return Source(
        folder=packed.folder,
        id=name,
        revision="",
        license=packed.license,
        architecture=architecture,
        model_type=model_type,
        task=_task(model_type, architecture, task, coverages, embeds=embeds),
        weights_sha256=packed.sha256,
        digest=hashlib.sha256(f"{packed.sha256}{packed.beside_sha256}".encode()).hexdigest(),
        files=("config.json",),
        weight_bytes=packed.float_bytes,
        packed=packed,
    )


def _gguf_name(model: Path) -> str:
    """A folder's name; of a file its own, without the part's number."""
    return model.resolve().name if model.is_dir() else _PART.sub("", model.stem)


def _task(
    model_type: str,
    architecture: str,
    asked: str | None,
    coverages: Sequence[Coverage],
    embeds: bool = False,
) -> str:
    """Every format has to take the model; what the first takes it for is what all are asked."""
    chosen = asked
    for coverage in coverages:
        chosen = task_of(model_type, architecture, chosen, embeds=embeds, coverage=coverage)
    return chosen or ""


def _looks_like_a_path(model: str) -> bool:
    return model.startswith((".", "/", "~")) or model.count("/") > 1 or "\\" in model


def _download(model: str, revision: str | None, patterns: list[str]) -> Path:
    """Return the snapshot's folder, named by its commit, with the files that match."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingError(
            f"{model} is not a folder, and the hub's client is not installed",
            why=str(error),
            next="pip install 'edgeward[hub]'",
        ) from None
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=patterns))
    except Exception as error:  # noqa: BLE001  a hub's nonsense makes its client raise anything
        words = str(error).strip().splitlines() or [type(error).__name__]
        raise SourceError(
            f"{model} is not a local folder and could not be downloaded",
            why=words[0][:300],
            next=f"check the name and the network, or: edgeward compile ./{Path(model).name}",
        ) from None


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise SourceError(
            f"{folder} has no config.json", why="so it is not a Hugging Face model folder"
        )
    config = _read_object(path)
    if "auto_map" in config:
        raise UnsupportedError(
            f"{folder} brings its own code (auto_map)", why="code from a model is never run"
        )
    return config


def _read_object(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_JSON + 1)
        if len(data) > _MAX_JSON:
            raise ValueError(f"larger than {_MAX_JSON >> 20} MiB")
        document = json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{path} cannot be read", why=str(error)[:300]) from None
    if not isinstance(document, dict):
        raise SourceError(f"{path} is not a JSON object")
    return document


def _architecture(config: dict[str, Any], folder: Path) -> tuple[str, str]:
    """Return the model type and the class's name."""
    model_type, listed = config.get("model_type"), config.get("architectures")
    if not isinstance(model_type, str) or not model_type:
        raise SourceError(f"{folder}/config.json names no model_type")
    first = listed[0] if isinstance(listed, list) and listed else ""
    return model_type, str(first)[:200] or model_type


def _refuse_links_out(folder: Path, names: Iterable[str]) -> None:
    """These files are shipped as they are: a link must not bring in what lies elsewhere.

    The hub's cache links each snapshot's files to `blobs/` beside `snapshots/`.
    """
    home = folder.resolve()
    allowed = (home, home.parent.parent / "blobs")
    for name in names:
        target = (folder / name).resolve()
        if not any(target.is_relative_to(place) for place in allowed):
            raise SourceError(
                f"{folder / name} is a link that leads out of the model",
                why=f"it would be shipped with the bundle: {target}",
                next="put the file itself in its place",
            )


def _weights(folder: Path) -> list[str]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(_shards(index))
    elif (folder / "model.safetensors").is_file():
        names = ["model.safetensors"]
    else:
        raise SourceError(f"{folder} has no safetensors weights", why=_instead(folder))
    for name in names:
        _check_header(folder / name)
    return names


def _shards(index: Path) -> set[str]:
    mapping = _read_object(index).get("weight_map")
    if not isinstance(mapping, dict) or not mapping:
        raise SourceError(f"{index} maps no weights")
    names = {str(name) for name in mapping.values()}
    for name in names:
        if "/" in name or "\\" in name or not name.endswith(".safetensors"):
            raise SourceError(f"{index} names a shard outside the folder", why=name[:200])
    return names


def _instead(folder: Path) -> str:
    pickled = [p.name for p in folder.glob("*.bin")] + [p.name for p in folder.glob("*.pt")]
    if pickled:
        return f"{pickled[0]} is a pickle, which can run code: convert it to safetensors first"
    return "expected model.safetensors, or shards with model.safetensors.index.json"


def _check_header(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as file:
            if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
                raise SourceError(
                    f"{path} is a git-lfs pointer, not the weights", next="git lfs pull"
                )
        with safe_open(path, framework="numpy") as opened:
            names = list(opened.keys())
    except (OSError, SafetensorError) as error:
        raise SourceError(
            f"{path} is not a whole safetensors file",
            why=f"{error}: a truncated download?"[:300],
            next="download it again",
        ) from None
    if not names:
        raise SourceError(f"{path} holds no tensors")


def _licence(folder: Path) -> str:
    card = folder / "README.md"
    if not card.is_file():
        return ""
    with card.open("rb") as file:
        text = file.read(65536).decode("utf-8", "replace")
    head = text.split("---", 2)[1] if text.startswith("---") and text.count("---") > 1 else ""
    found = _LICENCE.search(head)
    return found.group(1).strip()[:200] if found else ""


def _digest(folder: Path, names: Iterable[str]) -> str:
    lines = [f"{name} {sha256_of(folder / name)}" for name in sorted(names)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
