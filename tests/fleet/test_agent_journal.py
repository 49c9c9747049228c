"""The journal keeps every record before a damage, whatever the damage."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.fleet.agent.journal import COMPACT_ABOVE, KEEP, Journal

RECORDS = [b'{"n":%d,"text":"%s"}' % (n, b"x" * (n * 3)) for n in range(1, 7)]


def written(folder: Path) -> tuple[bytes, list[int]]:
    """Write the records; return the file and where each record's line ends."""
    path = folder / "whole"
    path.unlink(missing_ok=True)
    journal, ends = Journal(path), []
    for record in RECORDS:
        journal.append(record)
        ends.append(path.stat().st_size)
    return path.read_bytes(), ends


def read(folder: Path, data: bytes) -> list[bytes]:
    path = folder / "damaged"
    path.write_bytes(data)
    return Journal(path).read()


def test_a_cut_at_every_offset_loses_nothing_before_it(tmp_path: Path) -> None:
    data, ends = written(tmp_path)
    for cut in range(len(data) + 1):
        whole = sum(end - 1 <= cut for end in ends)
        assert read(tmp_path, data[:cut]) == RECORDS[:whole]


def test_a_flipped_bit_at_every_offset_loses_one_record(tmp_path: Path) -> None:
    data, ends = written(tmp_path)
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << (at % 8)
        found = read(tmp_path, bytes(damaged))
        hit = next(index for index, end in enumerate(ends) if at < end)
        assert found[:hit] == RECORDS[:hit]
        assert [r for r in RECORDS if r not in found] in ([], [RECORDS[hit]])
        assert all(record in RECORDS for record in found)


def test_what_was_damaged_is_gone_and_appending_goes_on(tmp_path: Path) -> None:
    data, _ = written(tmp_path)
    path = tmp_path / "damaged"
    path.write_bytes(data[:-5])
    journal = Journal(path)
    journal.append(b"after")
    assert Journal(path).read() == [*RECORDS[:-1], b"after"]


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=400), more=st.binary(max_size=50))
def test_any_content_is_read_without_raising(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, more: bytes
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    good, _ = written(folder)
    assert read(folder, good + data + b"\n" + more)[: len(RECORDS)] == RECORDS
    read(folder, data)


@pytest.mark.parametrize("head", [b"00000000 9999999 ", b"00000000 0 ", b"ffffffff 99999999999 "])
def test_hostile_lengths_are_passed_over(tmp_path: Path, head: bytes) -> None:
    data, _ = written(tmp_path)
    assert read(tmp_path, head + b"\n" + data) == RECORDS


def test_it_compacts_itself_and_keeps_the_newest(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    record = b"x" * 50_000
    for number in range(60):
        journal.append(record + b"%d" % number)
    assert (tmp_path / "journal").stat().st_size < COMPACT_ABOVE + 60_000
    assert Journal(tmp_path / "journal").read()[-KEEP:] == [
        record + b"%d" % number for number in range(60 - KEEP, 60)
    ]


def test_a_write_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "journal")
    journal.append(b"one")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            journal.append(b"two")
    assert (tmp_path / "journal").read_bytes().count(b"\n") == 1
    journal.append(b"three")
    assert Journal(tmp_path / "journal").read() == [b"one", b"three"]


@pytest.mark.parametrize("record", [b"", b"two\nlines", b"x" * (2**20 + 1)])
def test_what_is_no_record_is_refused(tmp_path: Path, record: bytes) -> None:
    with pytest.raises(ValueError, match="one line"):
        Journal(tmp_path / "journal").append(record)
