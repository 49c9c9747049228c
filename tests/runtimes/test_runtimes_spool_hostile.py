"""Statistics on a full disk, from several processes, and in a file that somebody spoiled."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgeward.errors import EdgewardError
from edgeward.runtimes.statistics.spool import Spool

APPEND = """
import sys
from edgeward.runtimes.statistics.spool import Spool
spool = Spool(sys.argv[1])
for number in range(25):
    spool.append({"who": int(sys.argv[2]), "n": number})
"""
ON_A_FULL_DISK = """
import resource, sys
from edgeward.runtimes.statistics.flusher import Flusher
from edgeward.runtimes.statistics.recorder import Observation, Recorder
from edgeward.runtimes.statistics.spool import Spool
recorder, spool = Recorder("d" * 64, 1.0), Spool(sys.argv[1])
spool.append({"before": True})
flusher = Flusher(recorder, spool, 3600)
recorder.record(Observation(1.0))
resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
flusher._flush()
if sys.argv[2] == "frees":
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
recorder.record(Observation(1.0))
flusher.close()
"""


def test_several_processes_may_append_to_one_spool(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    writers = [
        subprocess.Popen([sys.executable, "-c", APPEND, str(path), str(who)]) for who in range(3)
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    found = [delta for _, delta in Spool(path).peek()]
    for who in range(3):
        assert [delta["n"] for delta in found if delta["who"] == who] == list(range(25))


def test_several_may_make_one_spool_at_once(tmp_path: Path) -> None:
    writers = 8
    together = threading.Barrier(writers)

    def write(path: Path, who: int) -> None:
        together.wait()
        Spool(path).append({"who": who})

    with ThreadPoolExecutor(writers) as pool:
        for spool in range(15):
            path = tmp_path / str(spool)
            list(pool.map(write, [path] * writers, range(writers)))
            assert sorted(delta["who"] for _, delta in Spool(path).peek()) == list(range(writers))


@pytest.mark.parametrize(("disk", "requests"), [("frees", 2), ("stays full", 0)])
def test_a_full_disk_raises_nothing_and_loses_nothing_that_fits_later(
    tmp_path: Path, disk: str, requests: int
) -> None:
    path = tmp_path / "spool"
    command = [sys.executable, "-c", ON_A_FULL_DISK, str(path), disk]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "statistics wait in memory" in done.stderr
    assert "Traceback" not in done.stderr
    first, *others = [delta for _, delta in Spool(path).peek()]
    assert first == {"before": True}
    assert sum(delta["requests"] for delta in others) == requests


@pytest.mark.parametrize(
    "value", ["CAST(x'ff00' AS TEXT)", "x'80'", "5", "1.5", "NULL", "'[1]'", "'{'", "'\"text\"'"]
)
def test_a_row_that_is_no_delta_hides_no_other(tmp_path: Path, value: str) -> None:
    spool = Spool(tmp_path / "spool")
    spool.append({"n": 1})
    with sqlite3.connect(spool.path) as connection:
        connection.execute(f"INSERT INTO deltas (delta) VALUES ({value})")  # noqa: S608  fixed
    spool.append({"n": 2})
    assert [delta for _, delta in spool.peek()] == [{"n": 1}, {"n": 2}]
    with sqlite3.connect(spool.path) as connection:
        assert connection.execute("SELECT count(*) FROM deltas").fetchone() == (2,)


def test_texts_of_any_script_come_back(tmp_path: Path) -> None:
    delta = {"ключ": "値 \U0001f682 \x00 \ud800", "n": [1.5, None, True]}
    spool = Spool(tmp_path / "spool")
    spool.append(delta)
    assert [found for _, found in spool.peek()] == [delta]


def damaged(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)


def with_another_table(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE deltas (other INTEGER)")


def with_a_view(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE VIEW deltas AS SELECT 1 AS id, '{}' AS delta")


@pytest.mark.parametrize("spoil", [damaged, with_another_table, with_a_view])
def test_a_spoiled_database_is_told_and_never_a_traceback(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    path = tmp_path / "spool"
    Spool(path).append({"n": 1})
    for beside in ("-wal", "-shm"):
        path.with_name(path.name + beside).unlink(missing_ok=True)
    spoil(path)
    with pytest.raises(EdgewardError, match="cannot be used") as caught:
        spool = Spool(path)
        spool.append({"n": 2})
        spool.peek()
    assert caught.value.next.startswith("move ")


def test_a_folder_is_no_spool(tmp_path: Path) -> None:
    with pytest.raises(EdgewardError, match="cannot be used"):
        Spool(tmp_path)
