"""Files of importance matrices: both kinds are read, what is damaged is refused in words."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeward.compiler.formats.gguf_imatrix_file import Sums, read_importance, write_importance
from edgeward.errors import UsageError
from edgeward.runtimes.bundle.gguf_header import read_array, read_header

ATTENTION, EXPERTS = "blk.0.attn_q.weight", "blk.0.ffn_up_exps.weight"


def sums() -> dict[str, Sums]:
    return {
        EXPERTS: Sums(np.array([[8.0, 4.0], [9.0, 9.0]]), np.array([4, 0])),
        ATTENTION: Sums(np.array([[2.0, 4.0, 6.0]]), np.array([1024])),
    }


def older(entries: list[tuple[str, int, list[float]]], tail: bytes = b"") -> bytes:
    body = struct.pack("<i", len(entries))
    for name, calls, values in entries:
        body += struct.pack("<i", len(name)) + name.encode()
        body += struct.pack(f"<ii{len(values)}f", calls, len(values), *values)
    return body + tail


def test_what_is_written_is_read_as_means(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.gguf"
    write_importance(path, sums(), "calibration", 512)
    found = read_importance(path)
    assert (found.name, found.dataset, found.chunks) == ("imatrix.gguf", "calibration", 2)
    np.testing.assert_array_equal(found.means[ATTENTION], np.float32([2, 4, 6]) / 1024)
    # The second expert was never asked: its columns weigh alike.
    np.testing.assert_array_equal(found.means[EXPERTS], np.float32([2, 1, 1, 1]))


def test_it_is_laid_out_as_llama_imatrix_does(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.gguf"
    write_importance(path, sums(), "calibration", 512)
    header = read_header(path)
    assert header.text("general.type") == "imatrix"
    assert read_array(header, "imatrix.datasets") == ["calibration"]
    assert header.number("imatrix.chunk_count") == 2
    assert header.number("imatrix.chunk_size") == 512
    laid = [(t.name, t.shape, t.type_name, t.offset) for t in header.tensors]
    assert laid == [
        (f"{ATTENTION}.in_sum2", (3,), "F32", 0),
        (f"{ATTENTION}.counts", (1,), "F32", 32),
        (f"{EXPERTS}.in_sum2", (2, 2), "F32", 64),
        (f"{EXPERTS}.counts", (2, 1), "F32", 96),
    ]
    assert path.stat().st_size == header.data_start + 128


def test_the_older_kind_is_read_with_and_without_its_tail(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.dat"
    path.write_bytes(older([(ATTENTION, 4, [4.0, 8.0]), (EXPERTS, 0, [3.0])]))
    found = read_importance(path)
    assert {name: list(means) for name, means in found.means.items()} == {
        ATTENTION: [1, 2],
        EXPERTS: [3],
    }
    assert (found.chunks, found.dataset) == (0, "")
    tail = struct.pack("<ii", 7, 8) + b"wiki.txt"
    path.write_bytes(older([(ATTENTION, 4, [4.0])], tail))
    assert (read_importance(path).chunks, read_importance(path).dataset) == (7, "wiki.txt")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x01",
        struct.pack("<i", -1),
        struct.pack("<i", 1 << 30),
        struct.pack("<ii", 1, 1 << 30),
        struct.pack("<ii", 1, -5),
        struct.pack("<ii", 1, 1) + b"a" + struct.pack("<ii", 1, 1 << 30),
        struct.pack("<ii", 1, 1) + b"a" + struct.pack("<ii", 1, -1),
        older([(ATTENTION, 1, [1.0, 2.0])])[:-3],
        older([(ATTENTION, 1, [float("nan")])]),
        older([(ATTENTION, 1, [float("inf")])]),
        older([(ATTENTION, 1, [-1.0])]),
    ],
)
def test_a_damaged_older_file_is_refused(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "imatrix.dat"
    path.write_bytes(body)
    with pytest.raises(UsageError, match=r"imatrix\.dat is no importance matrix"):
        read_importance(path)


def test_a_model_is_no_importance_matrix(tmp_path: Path) -> None:
    from tiny_gguf import tiny_gguf

    with pytest.raises(UsageError) as error:
        read_importance(tiny_gguf(tmp_path / "model.gguf"))
    assert error.value.why == "it is a GGUF file of llama"


def test_sums_without_counts_and_other_types_are_refused(tmp_path: Path) -> None:
    from tiny_gguf import tiny_gguf

    told = {"general.type": "imatrix"}
    lone = tiny_gguf(tmp_path / "lone.gguf", told, {"a.in_sum2": ((4,), 0, 0)})
    with pytest.raises(UsageError) as error:
        read_importance(lone)
    assert error.value.why == "a has sums and no counts"
    tensors = {"a.in_sum2": ((4,), 1, 0), "a.counts": ((1,), 0, 32)}
    with pytest.raises(UsageError) as error:
        read_importance(tiny_gguf(tmp_path / "half.gguf", told, tensors))
    assert error.value.why == "its tensors are not all F32"
    tensors = {"a.in_sum2": ((4,), 0, 0), "a.counts": ((3,), 0, 32)}
    with pytest.raises(UsageError) as error:
        read_importance(tiny_gguf(tmp_path / "odd.gguf", told, tensors))
    assert "do not divide" in error.value.why


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=200), st.integers(0, 400))
def test_any_bytes_are_read_or_refused(tmp_path: Path, noise: bytes, place: int) -> None:
    path = tmp_path / "imatrix.gguf"
    write_importance(path, sums(), "calibration", 512)
    body = bytearray(path.read_bytes())
    body[place : place + len(noise)] = noise
    path.write_bytes(body)
    try:
        found = read_importance(path)
    except UsageError:
        return
    assert all(np.isfinite(means).all() for means in found.means.values())
