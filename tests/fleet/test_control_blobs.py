"""The content-addressed folder, and byte ranges."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import pytest
from control_support import sha
from hypothesis import given
from hypothesis import strategies as st

from edgeward.errors import IntegrityError, UsageError
from edgeward.fleet.control.blobs import Blobs, refusing_when_full
from edgeward.fleet.control.problems import FullError, TooLargeError
from edgeward.fleet.control.ranges import UnsatisfiableError, wanted_part

DATA = b"weights of a model"
DIGEST = hashlib.sha256(DATA).hexdigest()


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def test_put_and_found_again(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    assert blobs.put(DIGEST, [DATA[:3], DATA[3:]]) == len(DATA)
    path = Blobs(tmp_path).path(DIGEST)
    assert path == tmp_path / DIGEST[:2] / DIGEST
    assert path.read_bytes() == DATA
    assert blobs.put(DIGEST, [DATA]) == len(DATA)
    assert files(tmp_path) == [path]


def test_another_content_never_appears(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    with pytest.raises(IntegrityError):
        blobs.put(DIGEST, [b"something else"])
    assert blobs.path(DIGEST) is None
    assert files(tmp_path) == []


def test_an_upload_that_dies_leaves_nothing(tmp_path: Path) -> None:
    def pieces():  # type: ignore[no-untyped-def]  # a generator that breaks
        yield DATA
        raise ConnectionResetError

    blobs = Blobs(tmp_path, quota_bytes=len(DATA))
    with pytest.raises(ConnectionResetError):
        blobs.put(DIGEST, pieces())
    assert files(tmp_path) == []
    blobs.put(DIGEST, [DATA])


def test_what_a_crash_left_is_cleared(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    upload = blobs.receive(DIGEST)
    upload.write(DATA)
    assert len(files(tmp_path)) == 1
    Blobs(tmp_path)
    assert files(tmp_path) == []


def test_the_quota_holds_over_restarts(tmp_path: Path) -> None:
    Blobs(tmp_path).put(DIGEST, [DATA])
    blobs = Blobs(tmp_path, quota_bytes=len(DATA) + 4)
    with pytest.raises(FullError, match="cannot store"):
        blobs.put(sha("12345"), [b"12345"])
    assert blobs.path(sha("12345")) is None
    blobs.put(sha("1234"), [b"1234"])
    with pytest.raises(FullError):
        blobs.put(sha("1"), [b"1"])


def test_a_full_disk_has_words() -> None:
    with pytest.raises(FullError, match="cannot store"), refusing_when_full():
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(PermissionError), refusing_when_full():
        raise PermissionError(errno.EACCES, "no")


def test_a_limit_ends_an_endless_upload(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    endless = iter(lambda: b"x" * 100, b"")
    with pytest.raises(TooLargeError):
        blobs.put(DIGEST, endless, limit=1000)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["", "..", "../" + DIGEST, DIGEST.upper(), DIGEST + "\n", DIGEST[:63], "a/" * 32, "\0"]
)
def test_hostile_names_are_refused(tmp_path: Path, name: str) -> None:
    blobs = Blobs(tmp_path / "blobs")
    for call in (blobs.path, blobs.size, lambda n: blobs.put(n, [DATA])):
        with pytest.raises(UsageError):
            call(name)
    assert files(tmp_path) == []


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
def test_a_range_is_the_bytes_it_names(size: int, first: int, last: int) -> None:
    whole = bytes(range(size))
    try:
        part = wanted_part(f"bytes={first}-{last}", size)
    except UnsatisfiableError:
        assert first >= size
        return
    if part is None:
        assert last < first
        return
    assert whole[part.start : part.end] == whole[first : last + 1]
    assert part.length > 0


@given(st.integers(0, 50), st.integers(0, 60))
def test_a_suffix_is_the_last_bytes(size: int, length: int) -> None:
    try:
        part = wanted_part(f"bytes=-{length}", size)
    except UnsatisfiableError:
        assert not length or not size
        return
    assert part is not None
    whole = bytes(range(size))
    assert whole[part.start : part.end] == whole[-length:]


@given(st.text(max_size=40), st.integers(0, 100))
def test_any_header_is_answered(header: str, size: int) -> None:
    try:
        part = wanted_part(header, size)
    except UnsatisfiableError:
        return
    assert part is None or 0 <= part.start < part.end <= size


@pytest.mark.parametrize(
    "header", [None, "", "bytes=", "bytes=-", "bytes=0-1,3-4", "items=0-1", "bytes=1-0", "bytes=x-"]
)
def test_what_is_not_one_range_is_the_whole(header: str | None) -> None:
    assert wanted_part(header, 10) is None
