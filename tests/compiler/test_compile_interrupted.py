"""A compile that is cut off, runs out of something, or finds the disk full."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from compile_desk import Desk, workers_of
from real_model import minilm

from edgeward.runtimes.bundle.read import open_bundle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
BUNDLE = "all-MiniLM-L6-v2-kiosk-x86-fp32"
TRACING_BYTES = 500 << 20
INTERRUPTED = 130


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A desk whose compile was killed once its export was finished, and then run again."""
    desk = Desk(tmp_path_factory.mktemp("desk"))
    cut_off(desk, signal.SIGKILL, lambda _: names(desk) == ["export"])
    before = desk.finished()
    assert before
    assert desk.made() == []
    again = desk.run()
    assert again.returncode == 0, again.stderr
    assert before.items() <= desk.finished().items()
    yield desk


def names(desk: Desk) -> list[str]:
    return sorted(record["name"] for record in desk.records())


def cut_off(desk: Desk, number: int, ready: Callable[[int], bool]) -> str:
    """Send a signal when the time is ready; return what was said on stderr."""
    process = desk.start()
    workers = workers_of(process, ready)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.kill()
    _, said = process.communicate(timeout=60)
    assert process.returncode == (INTERRUPTED if number == signal.SIGINT else -number)
    assert "Traceback" not in said
    assert workers
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []
    return said


def test_a_killed_compile_goes_on_where_it_stopped(done: Desk) -> None:
    assert done.made() == [BUNDLE]
    assert names(done) == ["benchmark", "export", "optimise", "reference", "verify"]
    assert open_bundle(done.build / BUNDLE).manifest.proof.verified == "engine"
    assert list((done.cache / "stages" / "drafts").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_cut_off_in_the_export_it_leaves_nothing(tmp_path: Path, number: int) -> None:
    desk = Desk(tmp_path / "desk")
    said = cut_off(desk, number, lambda resident: resident > TRACING_BYTES)
    assert desk.made() == []
    assert desk.records() == []
    if number == signal.SIGINT:
        assert "interrupted" in said
        assert list((desk.cache / "stages" / "drafts").iterdir()) == []


def test_a_stage_over_its_time_is_told(tmp_path: Path) -> None:
    refused(Desk(tmp_path / "desk"), "--max-seconds", "3", "export did not end within 3.0 s")


def test_a_stage_over_its_memory_is_told(tmp_path: Path) -> None:
    refused(Desk(tmp_path / "desk"), "--max-memory-gib", "0.2", "export ran out of memory")


def refused(desk: Desk, option: str, value: str, words: str) -> None:
    done = desk.run(option, value)
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert option in done.stderr.partition("Next:")[2]
    assert "Traceback" not in done.stderr
    assert desk.made() == []
    assert desk.records() == []


def test_a_full_disk_keeps_the_old_bundle(done: Desk, tmp_path: Path) -> None:
    """The disk has room for one bundle; the second one differs by its licence alone."""
    other = tmp_path / "all-MiniLM-L6-v2"
    other.mkdir()
    for path in minilm().rglob("*"):
        if path.is_file():
            (other / path.relative_to(minilm())).parent.mkdir(parents=True, exist_ok=True)
            (other / path.relative_to(minilm())).hardlink_to(path)
    (other / "README.md").unlink(missing_ok=True)
    (other / "README.md").write_text("---\nlicense: another\n---\n")
    small = tmp_path / "small"
    small.mkdir()
    place = small / "build"
    first = " ".join(done.command("-o", str(place)))
    second = " ".join(done.command("-o", str(place), model=other))
    digest = f"sha256sum {place}/*/manifest.json"
    script = (
        f"mount -t tmpfs -o size=130m small {small} && {first} >/dev/null && {digest} && "
        f"{{ {second}; echo code $?; {digest}; ls {place}; {first} >/dev/null; echo code $?; }}"
    )
    flags = "-m" if os.geteuid() == 0 else "-rm"
    ran = subprocess.run(
        ["unshare", flags, "bash", "-c", script],
        env=done.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = ran.stdout.splitlines()
    assert len(said) == 5, ran.stdout + ran.stderr
    assert said == [said[0], "code 1", said[0], BUNDLE, "code 0"]
    assert "No space left" in ran.stderr
    assert "Traceback" not in ran.stderr
