"""Facts of a model wherever it lies: a folder, a GGUF file, a hub's repository, an address."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from edgeward.errors import SourceError, UsageError

from .blob import AbsentError, Blob, LocalBlob, RemoteBlob, UnreachableError, endpoint, whole
from .config import Config
from .facts import ModelFacts, Tensor
from .gather import facts_of
from .gguf_file import read_gguf
from .hub_cache import cached, is_commit, is_offline
from .layouts import STYLES, kind_of_model, text_of
from .picture_size import SETTINGS, side_of
from .safetensors_header import parameters, read_tensors

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9][\w.-]{0,95})?")
REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,127}")
SHARDS_AT_ONCE = 8
MAX_SHARDS = 2000
_INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"[A-Za-z0-9][\w.-]{0,200}\.safetensors")

Opener = Callable[[str], Blob]


def read_facts(model: str, *, revision: str = "main") -> ModelFacts:
    """Return the facts of a model, no weight read.

    `model` is a folder with config.json (and safetensors files), a config.json alone, a GGUF file,
    `organisation/name` on the hub or in its client's cache (`_from_hub`), or an address of a GGUF
    file or of a repository's folder (`https://host/organisation/name/resolve/REVISION`). Raises
    SourceError where it cannot be read, UsageError where it is none of these.
    """
    path = Path(model)
    if model.startswith(("http://", "https://")):
        return _from_address(model)
    if path.is_dir():
        return _from_files(lambda name: LocalBlob(path / name), _name_of(path))
    if path.suffix == ".gguf":
        return _from_gguf(LocalBlob(path), path.stem)
    if path.suffix == ".json" and path.is_file():
        name = path.parent.name if path.stem == "config" else path.stem
        document = _json(LocalBlob(path))
        side = _side(document, lambda file: LocalBlob(path.parent / file))
        return facts_of(document, name=name or path.stem, side=side)
    repository, _, said = model.partition("@")
    if not REPOSITORY.fullmatch(repository) or not REVISION.fullmatch(said or revision):
        raise UsageError(
            f"{model[:200]!a} is no model",
            why="expected a folder, a .gguf file, an address or a repository of the hub",
        )
    return _from_hub(repository, said or revision)


def _from_hub(repository: str, revision: str) -> ModelFacts:
    """The hub's facts; the cache's for a commit that lies there, or where the hub is out of reach.

    A branch is asked for on the hub first: it may have moved on since it was cached.
    """
    name, folder = repository.rpartition("/")[2], cached(repository, revision)
    if folder is not None and (is_commit(revision) or is_offline()):
        return _from_cache(folder, name)
    if is_offline():
        raise SourceError(
            f"{repository} at {revision} is not in the hub's cache",
            why="HF_HUB_OFFLINE says that the hub is not to be asked",
            next=f"HF_HUB_OFFLINE=0 hf download {repository}",
        )
    try:
        return _from_files(_remote(f"{endpoint()}/{repository}/resolve/{revision}"), name)
    except UnreachableError as error:
        if folder is not None:
            return _from_cache(folder, name)
        why = f"{error.why}; it is not in the hub's cache either" if error.why else ""
        raise UnreachableError(error.what, why=why, next=error.next) from None


def _from_cache(folder: Path, name: str) -> ModelFacts:
    facts = _from_files(lambda file: LocalBlob(folder / file), name)
    return replace(facts, cached=folder.name)


def _remote(base: str) -> Opener:
    return lambda name: RemoteBlob(f"{base}/{name}")


def _from_address(address: str) -> ModelFacts:
    stem = address.rstrip("/").partition("?")[0]
    if stem.endswith(".gguf"):
        return _from_gguf(RemoteBlob(address), stem.rpartition("/")[2][: -len(".gguf")])
    name = stem.partition("/resolve/")[0].rpartition("/")[2]
    return _from_files(_remote(stem), name)


def _name_of(folder: Path) -> str:
    return folder.resolve().name or "model"


def _from_gguf(blob: Blob, name: str) -> ModelFacts:
    document, tensors = read_gguf(blob)
    return facts_of(document, tensors, name=name, bytes_read=blob.taken, counted="gguf")


def _from_files(opened: Opener, name: str) -> ModelFacts:
    blobs: list[Blob] = []

    def tracked(file: str) -> Blob:
        blobs.append(opened(file))
        return blobs[-1]

    document = _json(tracked("config.json"))
    listed = _listed(tracked)
    tensors = None if listed is None else _parameters(document, listed)
    side = _side(document, tracked)
    taken = sum(blob.taken for blob in blobs)
    return facts_of(document, tensors, name=name, bytes_read=taken, side=side)


def _side(document: Mapping[str, object], opened: Opener) -> int | None:
    """What the model's pictures are cut to; None where it sees none or no settings say."""
    if kind_of_model(Config(document).text("model_type")) != "vision":
        return None
    try:
        return side_of(_json(opened(SETTINGS)))
    except AbsentError:
        return None


def _listed(opened: Opener) -> list[tuple[str, str, tuple[int, ...]]] | None:
    """The tensors of one file or of all shards, None where there are no safetensors files."""
    try:
        return read_tensors(opened("model.safetensors"))
    except AbsentError:
        pass
    try:
        index = _json(opened(_INDEX))
    except AbsentError:
        return None
    with ThreadPoolExecutor(SHARDS_AT_ONCE) as pool:
        shards = pool.map(lambda name: read_tensors(opened(name)), _shards(index))
        return [row for rows in shards for row in rows]


def _shards(index: Mapping[str, object]) -> Sequence[str]:
    places = index.get("weight_map")
    names = set(places.values()) if isinstance(places, dict) else set()
    if not names or len(names) > MAX_SHARDS:
        raise SourceError(f"{_INDEX} names {len(names)} files")
    for name in names:
        if not isinstance(name, str) or not _SHARD.fullmatch(name):
            raise SourceError(f"{_INDEX} names a file that is none: {str(name)[:100]!a}")
    return sorted(str(name) for name in names)


def _parameters(
    document: Mapping[str, object], listed: list[tuple[str, str, tuple[int, ...]]]
) -> list[Tensor]:
    config = text_of(Config(document))
    kind = config.text("model_type")
    style = STYLES.get(kind)
    tied = config.flag("tie_word_embeddings", style.tied if style else True)
    quantised = Config(document).section("quantization_config")
    bits = quantised.count("bits", default=4) if quantised else 4
    return parameters(listed, tied=tied, model_type=kind, bits=bits if bits in (2, 4, 8) else 4)


def _json(blob: Blob) -> dict[str, object]:
    try:
        document = json.loads(whole(blob))
    except (ValueError, RecursionError):
        raise SourceError(f"{blob.name} is not JSON") from None
    if not isinstance(document, dict):
        raise SourceError(f"{blob.name} holds no table")
    return document
