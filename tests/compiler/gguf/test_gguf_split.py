"""Splitting a GGUF: the bytes of llama.cpp's own tool, nothing lost, bounded memory."""

from __future__ import annotations

import hashlib
import tracemalloc
from pathlib import Path

import pytest
from split_gguf import ARRAY, F32, METADATA, UINT32, write_gguf

from edgeward.compiler.formats.gguf_split import is_larger, split_file, split_size
from edgeward.errors import SourceError, UsageError
from edgeward.runtimes.bundle.gguf_header import read_header, split_paths

# What `llama-gguf-split --split-max-size 1M` of llama.cpp 0.5.0 writes for the file of split_gguf.
BY_LLAMA_CPP = (
    "786c4ce44a74ca55c7185250a03d5b95ecdbc83ebd091d4e77334f30aa98f24a",
    "6066c3332372df609638c132309adbed9f03f526fbdc7e221d6d01f61af5e6f3",
    "3b6c964b220358c7350f63793adbacb43cc5a0b8c57aa17ec775f4bf0c43e90a",
)


def split(source: Path, folder: Path, size: str = "1M", stem: str = "part") -> list[Path]:
    folder.mkdir(exist_ok=True)
    return split_file(source, folder, stem, split_size(size), lambda *_: None)


def test_the_files_are_those_of_llama_cpps_own_tool(tmp_path: Path) -> None:
    parts = split(write_gguf(tmp_path / "tiny.gguf"), tmp_path / "parts")
    assert [path.name for path in parts] == [f"part-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    digests = tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in parts)
    assert digests == BY_LLAMA_CPP


def test_put_together_again_nothing_is_lost(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "tiny.gguf")
    parts = split(whole, tmp_path / "parts")
    assert split_paths(parts[0]) == parts
    headers = [read_header(path) for path in parts]
    data = b"".join(h.path.read_bytes()[h.data_start :] for h in headers)
    original = read_header(whole)
    assert data == whole.read_bytes()[original.data_start :]
    names = [tensor.name for header in headers for tensor in header.tensors]
    assert names == [tensor.name for tensor in original.tensors]
    own = {"split.no": 0, "split.count": 3, "split.tensors.count": len(names)}
    kept = {k: v for k, v in headers[0].metadata.items() if k not in own}
    assert list(kept) == list(original.metadata)
    assert {key: headers[0].metadata[key] for key in own} == own
    assert [header.metadata["split.no"] for header in headers] == [0, 1, 2]
    assert all(len(header.metadata) == len(own) for header in headers[1:])


def test_a_large_tensor_is_never_whole_in_memory(tmp_path: Path) -> None:
    tensors = [("small", (32,), F32), ("large", (1024, 1024 * 10), F32)]
    source = write_gguf(tmp_path / "large.gguf", tensors=tensors)
    tracemalloc.start()
    parts = split(source, tmp_path / "parts", "1M")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert parts[1].stat().st_size > 40 << 20
    assert peak < 24 << 20


@pytest.mark.parametrize("size", ["", "2", "2g", "0M", "-1G", "2GB", "1.5G", "9999999G", "2G\n"])
def test_a_size_that_llama_cpp_would_not_read_is_refused(size: str) -> None:
    with pytest.raises(UsageError, match="is no size"):
        split_size(size)


def test_sizes_are_counted_as_llama_cpp_counts_them() -> None:
    assert (split_size("2G"), split_size("500M")) == (2_000_000_000, 500_000_000)


def test_what_fits_one_file_is_left_whole(tmp_path: Path) -> None:
    """Metadata counts for nothing: a large vocabulary alone makes no second file."""
    words = {**METADATA, "tokenizer.ggml.tokens": (ARRAY, ["x" * 100] * 4000)}
    source = write_gguf(tmp_path / "words.gguf", words, [("one", (64, 64), F32)])
    assert source.stat().st_size > 64 * 64 * 4 * 10
    assert not is_larger(source, 64 * 64 * 4)
    assert is_larger(source, 64 * 64 * 4 - 1)


def test_what_cannot_be_split_is_refused(tmp_path: Path) -> None:
    first = write_gguf(tmp_path / "first.gguf", tensors=[("large", (1024, 1024), F32)])
    with pytest.raises(UsageError, match=r"(?s)as small as that.*--split-size 5M"):
        split(first, tmp_path / "parts")
    aligned = {**METADATA, "general.alignment": (UINT32, 64)}
    strange = write_gguf(tmp_path / "strange.gguf", aligned, [("one", (64, 64), F32)])
    with pytest.raises(SourceError, match="another number"):
        split(strange, tmp_path / "parts")
    parts = split(write_gguf(tmp_path / "tiny.gguf"), tmp_path / "parts")
    with pytest.raises(SourceError, match="already"):
        split(parts[0], tmp_path / "parts", stem="again")
    cut = tmp_path / "cut.gguf"
    cut.write_bytes((tmp_path / "tiny.gguf").read_bytes()[:-64])
    with pytest.raises(SourceError, match="not a GGUF file"):
        split(cut, tmp_path / "parts", stem="cut")
