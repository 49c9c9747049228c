"""Children that hang, leak, flood or leave orphans end with their limits, and the agent goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from agent_bench import Bench
from agent_sim import STANDINS, make_text_bundle

from edgeward.fleet.agent.clock import SystemClock
from edgeward.fleet.agent.device import GateLimits
from edgeward.fleet.agent.keeper import Keeper
from edgeward.fleet.agent.server import ServerChild, read_port
from edgeward.fleet.protocol.documents import Outcome
from edgeward.runtimes.child import die_with, run_limited

MIB = 2**20
ORPHAN = """
import os, sys, time
if os.fork() == 0:
    open(sys.argv[1], "w").write(str(os.getpid()))
    time.sleep(600)
time.sleep(600)
"""


def nothing() -> None:
    return None


def run(code: str, *arguments: str, seconds: float = 30.0, memory: int = 256 * MIB) -> str:
    ended = run_limited(
        [sys.executable, "-S", "-c", code, *arguments],
        seconds=seconds,
        memory_bytes=memory,
        clock=SystemClock(),
        between=nothing,
    )
    return ended.stopped or f"{ended.status} {len(ended.output)} {ended.errors}"


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_child_that_ends_by_itself() -> None:
    assert run("import sys; sys.stderr.write('no'); print('yes'); sys.exit(4)") == "4 4 no"


def test_a_hang_ends() -> None:
    assert "did not end within 0.5 seconds" in run("import time; time.sleep(600)", seconds=0.5)


def test_a_leak_ends() -> None:
    leak = "import time\nhoard = []\nwhile True: hoard.append(b'x' * 2**22); time.sleep(0.01)"
    assert "bytes of memory" in run(leak, memory=64 * MIB)


def test_a_flood_is_cut_at_a_megabyte() -> None:
    assert run("import sys; sys.stdout.write('x' * 2**25)") == f"0 {MIB} "


def test_grandchildren_go_too(tmp_path: Path) -> None:
    assert run(ORPHAN, str(tmp_path / "pid"), seconds=1.0)
    pid = int((tmp_path / "pid").read_text())
    end = time.monotonic() + 10
    while not is_gone(pid) and time.monotonic() < end:
        time.sleep(0.01)
    assert is_gone(pid)


def test_what_between_raises_ends_the_child() -> None:
    def enough() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_limited(
            [sys.executable, "-S", "-c", "import time; time.sleep(600)"],
            seconds=600.0,
            memory_bytes=256 * MIB,
            clock=SystemClock(),
            between=enough,
        )


class SteppingClock(SystemClock):
    """The system's clock, at a hundredfold speed."""

    def monotonic(self) -> float:
        return time.monotonic() * 100.0


@pytest.mark.parametrize(
    ("text", "words"), [("gate-hang", "did not end within"), ("gate-leak", "bytes of memory")]
)
def test_a_gate_that_hangs_or_leaks_refuses_the_bundle(
    tmp_path: Path, text: str, words: str
) -> None:
    bench = Bench(tmp_path)
    bench.device.gate = GateLimits(max_memory_bytes=100 * MIB)
    good = bench.install("fine", 1)
    if text == "gate-hang":
        bench.clock.monotonic = SteppingClock().monotonic  # type: ignore[method-assign]
    bench.install(text, 2)
    last = bench.link.reports[-1]
    assert last.outcome is Outcome.REFUSED
    assert words in str(last.problem)
    assert (bench.active(), bench.server.digest) == (good, good)


def test_the_server_child_lives_answers_and_ends(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.home.prepare()
    bundle = make_text_bundle(tmp_path / ("b" * 64), "fine")
    server = ServerChild(STANDINS.serve, bench.home, SystemClock(), "127.0.0.1", 0)
    server.start(bundle.path, "b" * 64)
    end = time.monotonic() + 20
    while server.port is None and time.monotonic() < end:
        assert server.alive
        time.sleep(0.02)
    assert server.health() == "b" * 64
    assert server.probe("hello") is None
    server.stop()
    assert (server.alive, server.port, server.health()) == (False, None, None)


def test_a_server_that_refuses_shows_its_words(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.home.prepare()
    bundle = make_text_bundle(tmp_path / "bundle", "wont-start")
    server = ServerChild(STANDINS.serve, bench.home, SystemClock(), "127.0.0.1", 0)
    server.start(bundle.path, bundle.digest)
    end = time.monotonic() + 20
    while server.alive and time.monotonic() < end:
        time.sleep(0.02)
    assert not server.alive
    assert "cannot load" in server.words()
    server.stop()


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"port": 5}', b'{"port": "x", "pid": 1}', b'{"port":0,"pid":1}']
)
def test_a_ready_file_that_is_none(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "ready"
    path.write_bytes(data)
    assert read_port(path, os.getpid()) is None


def test_a_ready_file_of_another_process_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "ready"
    path.write_text('{"port": 8000, "pid": 12}')
    assert read_port(path, 12) == 8000
    assert read_port(path, 13) is None


def test_a_server_that_keeps_dying_is_restarted_ever_more_rarely(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bundle = bench.bundle("fine")
    keeper = Keeper(bench.server, bench.clock)
    begun = bench.clock.time
    for _ in range(100_000):
        keeper.keep(bundle.path, bundle.digest)
        bench.server.alive = False
        bench.clock.sleep(0.1)
    elapsed = bench.clock.time - begun
    assert elapsed / 60.0 / 2 < len(bench.server.started) < elapsed / 10.0
    keeper.keep(None, None)
    assert bench.server.digest is None


def test_a_child_whose_agent_died_before_it_could_ask_ends_itself() -> None:
    command = [sys.executable, "-S", "-c", "pass"]
    orphan = subprocess.run(command, preexec_fn=partial(die_with, 1), check=False)
    assert orphan.returncode == 1
    child = subprocess.run(command, preexec_fn=partial(die_with, os.getpid()), check=False)
    assert child.returncode == 0
