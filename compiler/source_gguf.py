"""GGUF files as a source: which they are, what they hold together, what they would be in floats."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeward.errors import SourceError
from edgeward.runtimes.bundle.read import sha256_of

from .cache_dir import cache_root
from .dequantise_gguf_config import model_config
from .dequantise_gguf_names import SHIFTED, placements
from .dequantise_gguf_small import WRITER_VERSION, beside_files, write_small_files
from .dequantise_gguf_tokenizer import check_tokenizer
from .source_gguf_header import GgufHeader, read_header
from .source_packed import Packed

GGUF = "gguf"
_SUFFIX = ".gguf"
_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
_PROJECTOR = "mmproj"


def gguf_files(model: Path) -> list[Path]:
    """Return the parts of the GGUF model that a file or folder is, none where it is another.

    A folder with safetensors is a plain model, whatever else lies in it. Raises SourceError where
    a part is missing or the folder holds several models.
    """
    if model.is_file():
        return _parts(model) if model.suffix == _SUFFIX else []
    if any(model.glob("*.safetensors")):
        return []
    found = [one for one in sorted(model.glob(f"*{_SUFFIX}")) if _PROJECTOR not in one.name]
    if not found:
        return []
    parts = _parts(found[0])
    others = [one.name for one in found if one not in parts]
    if others:
        raise SourceError(
            f"{model} holds several GGUF models",
            why=", ".join(one.name for one in found[:5]),
            next=f"edgeward compile {found[0]} …",
        )
    return parts


def _parts(path: Path) -> list[Path]:
    """All parts of a split model, by their names; the file itself where it is whole."""
    named = _PART.fullmatch(path.name)
    if named is None:
        return [path]
    stem, count = named.group(1), int(named.group(3))
    parts = [path.with_name(f"{stem}-{n:05d}-of-{count:05d}{_SUFFIX}") for n in range(1, count + 1)]
    missing = [one.name for one in parts if not one.is_file()]
    if missing or not parts:
        raise SourceError(
            f"{path} is one of {count} parts, and {len(missing)} are missing",
            why=", ".join(missing[:3]),
            next="download all parts into one folder",
        )
    return parts


def merged_header(paths: Sequence[Path]) -> GgufHeader:
    """Return the header of all parts together: the first one's metadata, everybody's tensors."""
    headers = [read_header(path) for path in paths]
    first = headers[0]
    if first.integer("split.count", 1) not in (len(paths), 0):
        raise SourceError(
            f"{first.path} is one of {first.integer('split.count', 1)} parts",
            why=f"{len(paths)} found by its name",
            next="keep the names that the parts were given: NAME-00001-of-00003.gguf",
        )
    for number, header in enumerate(headers):
        if len(paths) > 1 and header.integer("split.no", -1) != number:
            raise SourceError(f"{header.path} is not part {number + 1}", why="its header says so")
    tensors = tuple(tensor for header in headers for tensor in header.tensors)
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise SourceError(f"{first.path} and its other parts hold a tensor twice")
    return replace(first, tensors=tensors)


def read_gguf(paths: Sequence[Path]) -> Packed:
    """Check a GGUF model by its headers alone, then name it by its content.

    Raises SourceError for what is damaged, UnsupportedError for what cannot be written as a
    Hugging Face folder.
    """
    header = merged_header(paths)
    config = model_config(header)
    beside = paths[0].parent if beside_files(paths[0].parent) else None
    if beside is None or "tokenizer.json" not in beside_files(beside):
        check_tokenizer(header)
    placed = placements(header, config["model_type"], tied=bool(config.get("tie_word_embeddings")))
    sha256, beside_sha256 = _sha256(paths), _beside_sha256(beside)
    named = hashlib.sha256(f"{WRITER_VERSION} {sha256} {beside_sha256}".encode()).hexdigest()
    preview = _preview(header, named, beside)
    kept = {"F16": 2, "BF16": 2}
    return Packed(
        format=GGUF,
        paths=tuple(paths),
        sha256=sha256,
        types=dict(sorted(Counter(one.type.name for one in header.tensors).items())),
        float_bytes=sum(
            one.tensor.elements
            // (1 if one.expert is None else one.tensor.shape[0])
            * (4 if one.change == SHIFTED else kept.get(one.tensor.type.name, 4))
            for one in placed
        ),
        folder=preview,
        beside=beside,
        beside_sha256=beside_sha256,
        license=header.text("general.license")[:200],
    )


def _sha256(paths: Sequence[Path]) -> str:
    """The file's own digest; of several, the digest of their names and digests."""
    if len(paths) == 1:
        return sha256_of(paths[0])
    lines = [f"{path.name} {sha256_of(path)}" for path in paths]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _beside_sha256(folder: Path | None) -> str:
    if folder is None:
        return ""
    names = ["config.json", *beside_files(folder)]
    lines = [f"{name} {sha256_of(folder / name)}" for name in sorted(names)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _preview(header: GgufHeader, digest: str, beside: Path | None) -> Path:
    """Write the small files alone, for everything that is decided before any work."""
    folder = cache_root() / "sources" / digest[:32]
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix="."))
    try:
        write_small_files(header, draft, beside)
        draft.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder
