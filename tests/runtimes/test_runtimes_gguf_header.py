"""GGUF headers: what they say, and what damaged and hostile ones cannot do."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_gguf import F32, METADATA, Q4_0, TENSORS, Tensor, tiny_gguf, typed

from edgeward.errors import EngineError, SourceError
from edgeward.runtimes.bundle.gguf_header import read_array, read_header, split_paths
from edgeward.runtimes.engines.cores import physical_cores
from edgeward.runtimes.engines.llama_checks import checked_header


def test_it_tells_metadata_and_tensors(tmp_path: Path) -> None:
    header = read_header(tiny_gguf(tmp_path / "a.gguf"))
    assert header.architecture == "llama"
    assert header.number("tokenizer.ggml.eos_token_id") == 2
    assert header.metadata["tokenizer.ggml.add_bos_token"] is False
    assert header.number("tokenizer.ggml.add_bos_token") is None
    assert read_array(header, "tokenizer.ggml.tokens") == ["a", "b", "ab"]
    assert read_array(header, "tokenizer.ggml.token_type") == [1, 1, 1]
    assert read_array(header, "nothing") == []
    first, second = header.tensors
    assert (first.name, first.shape, first.type_name, first.size) == ("one", (3, 4), "F32", 48)
    assert (second.shape, second.type_name, second.size) == ((2, 32), "Q4_0", 36)
    assert header.types() == {"F32": 48, "Q4_0": 36}
    assert header.data_start % 32 == 0


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    whole = tiny_gguf(tmp_path / "a.gguf").read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        with pytest.raises(SourceError, match=r"cut\.gguf is not a GGUF file"):
            read_header(cut)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 500), st.binary(min_size=1, max_size=9))
def test_other_bytes_are_read_or_refused(tmp_path: Path, at: int, other: bytes) -> None:
    data = bytearray(tiny_gguf(tmp_path / "a.gguf").read_bytes())
    data[at : at + len(other)] = other
    path = tmp_path / "other.gguf"
    path.write_bytes(data)
    try:
        header = checked_header(path)
    except EngineError:
        return
    assert all(tensor.size <= len(data) for tensor in header.tensors)


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ({"one": ((4, 3), F32, 96)}, "ends 44 bytes behind the file"),
        ({"one": ((1 << 62, 1 << 62, 1 << 62, 1 << 62), F32, 0)}, "behind the file"),
        ({"one": ((4, 3), 99, 0)}, "unknown type 99"),
        ({"one": ((31, 2), Q4_0, 0)}, "rows of 31, Q4_0 blocks of 32"),
        ({"one": ((4, 3), F32, 4)}, "not at a multiple of"),
        ({"n" * 64: ((4, 3), F32, 0)}, "too long"),
        ({"one": ((1, 1, 1, 1, 1), F32, 0)}, "5 dimensions"),
    ],
)
def test_tensors_stay_in_the_file(tmp_path: Path, tensors: Mapping[str, Tensor], why: str) -> None:
    with pytest.raises(SourceError) as refused:
        read_header(tiny_gguf(tmp_path / "a.gguf", tensors=tensors))
    assert why in refused.value.why


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (struct.pack("<4sIQQ", b"GGUF", 1, 0, 0), "version is 1"),
        (struct.pack(">4sIQQ", b"GGUF", 3, 0, 0), "version is"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 1 << 60, 0), "tensors, more than"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 0, 1 << 60), "metadata keys, more than"),
        (struct.pack("<4sIQQQ", b"GGUF", 3, 0, 1, 1 << 40), "too long"),
        (struct.pack("<4sIQQQ1sIIQ", b"GGUF", 3, 0, 1, 1, b"k", 9, 8, 1 << 60), "leaves the file"),
        (struct.pack("<4sIQQQ1sIIQ", b"GGUF", 3, 0, 1, 1, b"k", 9, 9, 1), "unknown type 9"),
        (struct.pack("<4sIQQQ1sI", b"GGUF", 3, 0, 1, 1, b"k", 77), "unknown type 77"),
        (b"PK\x03\x04" + bytes(40), "begins with"),
        (b"", "empty"),
    ],
)
def test_counts_and_sizes_are_bounded(tmp_path: Path, body: bytes, why: str) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(body)
    with pytest.raises(SourceError) as refused:
        read_header(path)
    assert why in refused.value.why


def test_a_key_or_a_tensor_is_there_once(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "a.gguf", {"general.name1": "x", "general.name2": "y"}, {})
    path.write_bytes(path.read_bytes().replace(b"name2", b"name1"))
    with pytest.raises(SourceError, match="there twice"):
        read_header(path)
    path = tiny_gguf(tmp_path / "b.gguf", {}, {"one": ((4,), F32, 0), "two": ((4,), F32, 32)})
    path.write_bytes(path.read_bytes().replace(b"two", b"one"))
    with pytest.raises(SourceError, match="one name"):
        read_header(path)


@pytest.mark.parametrize("alignment", [0, 3, 1 << 30, "32"])
def test_an_alignment_is_a_small_power_of_two(tmp_path: Path, alignment: int | str) -> None:
    with pytest.raises(SourceError, match="alignment"):
        read_header(tiny_gguf(tmp_path / "a.gguf", {"general.alignment": alignment}, {}))


def test_split_files_are_found_by_the_first(tmp_path: Path) -> None:
    names = [f"m-{n:05d}-of-00003.gguf" for n in (1, 2, 3)]
    paths = [tiny_gguf(tmp_path / name) for name in names]
    assert split_paths(paths[0]) == paths
    assert split_paths(tmp_path / "whole.gguf") == [tmp_path / "whole.gguf"]
    with pytest.raises(SourceError, match="not the first file"):
        split_paths(paths[1])
    paths[2].unlink()
    with pytest.raises(SourceError, match="1 of the 3 files"):
        split_paths(paths[0])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"general.architecture": ""}, "no architecture"),
        ({"tokenizer.ggml.model": "wrong"}, "tokenizer 'wrong' is not one of"),
        ({"tokenizer.ggml.tokens": []}, "no vocabulary"),
        ({"tokenizer.ggml.tokens": "abc"}, "no vocabulary"),
        ({"tokenizer.ggml.merges": 1}, "no merges"),
        ({"tokenizer.ggml.eos_token_id": 3}, "eos token is 3, the vocabulary has 3"),
        ({"tokenizer.ggml.tokens": ["a", "b", "a"]}, "a token twice"),
        ({"split.count": 2}, "one of 2 files"),
    ],
)
def test_what_llama_cpp_does_not_survive_is_refused_before(
    tmp_path: Path, changes: dict[str, object], why: str
) -> None:
    assert checked_header(tiny_gguf(tmp_path / "good.gguf")).architecture == "llama"
    with pytest.raises(EngineError) as refused:
        checked_header(tiny_gguf(tmp_path / "a.gguf", {**METADATA, **changes}))  # type: ignore[arg-type]
    assert why in refused.value.why


def test_files_of_one_model_hold_other_tensors(tmp_path: Path) -> None:
    told = {**METADATA, "split.count": 2}
    first = tiny_gguf(tmp_path / "m-00001-of-00002.gguf", told, {"one": TENSORS["one"]})
    tiny_gguf(tmp_path / "m-00002-of-00002.gguf", {}, {"two": TENSORS["two"]})
    assert checked_header(first).number("split.count") == 2
    tiny_gguf(tmp_path / "m-00002-of-00002.gguf", {}, TENSORS)
    with pytest.raises(EngineError, match="cannot load") as refused:
        checked_header(first)
    assert "same tensor" in refused.value.why


def test_two_threads_of_a_core_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cpu, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        place = tmp_path / f"cpu{cpu}" / "topology"
        place.mkdir(parents=True)
        (place / "thread_siblings_list").write_text(siblings + "\n")
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0, 1, 2, 3})
    assert physical_cores(tmp_path) == 2
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0, 2})
    assert physical_cores(tmp_path) == 1
    assert physical_cores(tmp_path / "nothing") == 2


def test_an_array_of_another_file_is_refused(tmp_path: Path) -> None:
    header = read_header(tiny_gguf(tmp_path / "a.gguf"))
    (tmp_path / "a.gguf").write_bytes(typed("short"))
    for key in ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type"):
        with pytest.raises(SourceError, match="cannot be read"):
            read_array(header, key)
