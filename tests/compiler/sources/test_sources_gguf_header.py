"""A GGUF file's header: whole ones are read, every damage is answered in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_source_gguf import VOCABULARY, WIDTH, gguf_bytes, metadata, tensor_names, write_gguf

from edgeward.compiler.source_gguf import gguf_files, merged_header
from edgeward.compiler.source_gguf_header import read_header
from edgeward.errors import EdgewardError, SourceError, UnsupportedError


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    header = read_header(write_gguf(tmp_path / "model.gguf"))
    assert header.text("general.name") == "tiny"
    assert header.integer("llama.block_count") == 1
    assert header.number("llama.attention.layer_norm_rms_epsilon") == pytest.approx(1e-5)
    assert len(header.texts("tokenizer.ggml.tokens")) == VOCABULARY
    embedding = header.tensor("token_embd.weight")
    assert embedding is not None and embedding.shape == (VOCABULARY, WIDTH)
    stored = np.fromfile(header.path, "<f4", embedding.elements, offset=embedding.offset)
    wanted = np.random.default_rng(0).normal(size=(VOCABULARY, WIDTH)).astype(np.float32)
    np.testing.assert_array_equal(stored.reshape(embedding.shape), wanted)


def test_a_file_cut_anywhere_is_refused_in_words(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "model.gguf").read_bytes()
    path = tmp_path / "cut.gguf"
    for length in [*range(0, 2000, 7), *range(2000, len(whole) - 32, 997)]:
        path.write_bytes(whole[:length])
        with pytest.raises(EdgewardError):
            read_header(path)


def test_a_file_with_any_byte_of_its_header_changed_never_breaks_the_reader(tmp_path: Path) -> None:
    whole = bytearray(write_gguf(tmp_path / "model.gguf").read_bytes())
    path = tmp_path / "changed.gguf"
    for at in range(0, 1200, 5):
        changed = bytearray(whole)
        changed[at] ^= 0xFF
        path.write_bytes(changed)
        try:
            read_header(path)
        except EdgewardError as error:
            assert error.exit_code == 1


WRONG: dict[str, tuple[Callable[[], bytes], type[EdgewardError], str]] = {
    "version 1": (
        lambda: gguf_bytes(metadata(), tensor_names(), version=1),
        UnsupportedError,
        "GGUF version 1",
    ),
    "big-endian": (
        lambda: gguf_bytes(metadata(), tensor_names(), order=">"),
        UnsupportedError,
        "big-endian",
    ),
    "unknown type": (
        lambda: gguf_bytes(metadata(), tensor_names(), kind=99),
        UnsupportedError,
        "type 99",
    ),
    "another file": (lambda: b"PK\3\4" + b"\0" * 64, SourceError, "not a GGUF file"),
    "a pointer": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        SourceError,
        "git-lfs pointer",
    ),
    "rows of no whole block": (
        lambda: gguf_bytes(metadata(), {"token_embd.weight": (4, 33)}, kind=2),
        SourceError,
        "rows of 33",
    ),
    "an alignment of none": (
        lambda: gguf_bytes(metadata(general__alignment=0), tensor_names()),
        SourceError,
        "alignment is 0",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_said(wrong: str, tmp_path: Path) -> None:
    make, kind, words = WRONG[wrong]
    path = tmp_path / "model.gguf"
    path.write_bytes(make())
    with pytest.raises(kind, match=words):
        read_header(path)


def test_a_pair_of_another_type_is_named(tmp_path: Path) -> None:
    header = read_header(write_gguf(tmp_path / "m.gguf", llama__block_count="one"))
    with pytest.raises(SourceError, match=r"wrong llama\.block_count"):
        header.integer("llama.block_count")
    with pytest.raises(SourceError, match=r"lacks llama\.rope"):
        header.number("llama.rope")


def _split(folder: Path, counts: tuple[int, ...] = (2, 2)) -> list[Path]:
    names = list(tensor_names().items())
    halves = (dict(names[:6]), dict(names[6:]))
    paths = []
    for number, half in enumerate(halves):
        path = folder / f"model-{number + 1:05d}-of-00002.gguf"
        pairs = metadata() if number == 0 else {"general.architecture": "llama"}
        pairs |= {"split.no": number, "split.count": counts[number]}
        path.write_bytes(gguf_bytes(pairs, half))
        paths.append(path)
    return paths


def test_parts_are_found_by_any_of_them_and_read_as_one(tmp_path: Path) -> None:
    paths = _split(tmp_path)
    assert gguf_files(tmp_path) == gguf_files(paths[1]) == paths
    header = merged_header(paths)
    assert {one.name for one in header.tensors} == set(tensor_names())
    assert {one.path for one in header.tensors} == set(paths)


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    paths = _split(tmp_path)
    paths[1].unlink()
    with pytest.raises(SourceError, match="1 are missing") as caught:
        gguf_files(tmp_path)
    assert "model-00002-of-00002.gguf" in caught.value.why


def test_parts_that_are_not_each_others_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="one of 3 parts"):
        merged_header(_split(tmp_path, (3, 2)))
    paths = _split(tmp_path)
    with pytest.raises(SourceError, match="not part 1"):
        merged_header(paths[::-1])


def test_a_folder_of_several_models_asks_for_one(tmp_path: Path) -> None:
    write_gguf(tmp_path / "a-Q4_0.gguf")
    assert gguf_files(tmp_path) == [tmp_path / "a-Q4_0.gguf"]
    write_gguf(tmp_path / "mmproj-a.gguf")
    assert gguf_files(tmp_path) == [tmp_path / "a-Q4_0.gguf"]
    write_gguf(tmp_path / "a-Q8_0.gguf")
    with pytest.raises(SourceError, match="several GGUF models"):
        gguf_files(tmp_path)


def test_a_folder_with_safetensors_is_a_plain_model(tmp_path: Path) -> None:
    write_gguf(tmp_path / "a.gguf")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert gguf_files(tmp_path) == []
