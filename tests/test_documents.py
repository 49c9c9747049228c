"""What README and docs/ say is run as written."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import ROOT, Snippet, documents, snippets
from hub_cache import hub_cache

FIRST_SCREEN = ("make demo", "make test")
DEADLINE = 1200.0


def all_commands() -> list[str]:
    return [s.text for path in documents() for s in snippets(path.read_text()) if _is_shell(s)]


def _is_shell(snippet: Snippet) -> bool:
    return snippet.language == "console"


def test_the_first_screen_has_the_two_commands() -> None:
    first_screen = (ROOT / "README.md").read_text().partition("\n## ")[0]
    assert len(first_screen.splitlines()) < 25
    shown = [s.text for s in snippets(first_screen)]
    assert shown == list(FIRST_SCREEN)


def test_every_make_target_that_is_named_is_there() -> None:
    named = {
        name
        for path in documents()
        for name in re.findall(r"(?:`|\$ )make (\w+)", path.read_text())
    }
    assert {"demo", "test", "setup"} <= named
    for name in named:
        done = subprocess.run(["make", "-n", name], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_every_path_that_is_named_is_there() -> None:
    missing = [
        f"{path.name}: {name}"
        for path in documents()
        for name in re.findall(r"`((?:\w[\w.-]*/)+[\w.-]*\.\w+)`", path.read_text())
        if not (ROOT / name).exists() and not (ROOT / "src" / "edgeward" / name).exists()
        and "NAME" not in name
    ]  # fmt: skip
    assert missing == []


def test_no_shell_command_escapes_the_run_below() -> None:
    readme = [s.text for s in snippets((ROOT / "README.md").read_text()) if _is_shell(s)]
    assert set(all_commands()) == set(readme)


class Reader:
    """Types what a document shows, in an empty folder with an empty home."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "XDG_DATA_HOME": str(folder / "data"),
            "HF_HOME": str(hub_cache(folder / "hub")),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        }
        self._services: list[subprocess.Popen[bytes]] = []

    def type(self, command: str) -> None:
        if not command.endswith("&"):
            self.call(["bash", "-c", command])
            return
        log = (self.folder / f"service-{len(self._services)}.log").open("wb")
        self._services.append(
            subprocess.Popen(
                ["bash", "-c", f"exec {command.rstrip('& ')}"],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        )
        _wait_for("http://127.0.0.1:8040/v1/trust")

    def call(self, command: list[str]) -> None:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"

    def close(self) -> None:
        for service in reversed(self._services):
            service.send_signal(signal.SIGTERM)
        assert [service.wait(timeout=60) for service in reversed(self._services)] == [0] * len(
            self._services
        )


def _wait_for(url: str) -> None:
    end = time.monotonic() + 60
    while not _answers(url):
        assert time.monotonic() < end, f"{url} does not answer"
        time.sleep(0.2)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()  # noqa: S310
    except OSError:
        return False
    return True


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    try:
        yield reader
    finally:
        reader.close()


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_reader_of_the_readme_gets_there(reader: Reader) -> None:
    for snippet in snippets((ROOT / "README.md").read_text()):
        if snippet.text in FIRST_SCREEN:
            continue
        if snippet.language == "python":
            reader.call([sys.executable, "-c", snippet.text])
        else:
            reader.type(snippet.text)
    assert sorted(p.name for p in (reader.folder / "build").iterdir()) == [
        "all-MiniLM-L6-v2-android-mid-tflite-int8-dynamic",
        "all-MiniLM-L6-v2-iphone-15-pro-coreml-int8-weights",
        "all-MiniLM-L6-v2-jetson-orin-nano-fp16",
        "all-MiniLM-L6-v2-jetson-orin-nano-fp32",
        "all-MiniLM-L6-v2-jetson-orin-nano-int8-dynamic",
        "all-MiniLM-L6-v2-kiosk-x86-fp32",
        "all-MiniLM-L6-v2-kiosk-x86-int8-dynamic",
        "all-MiniLM-L6-v2-kiosk-x86-q8_0",
    ]


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_demo_shows_what_it_says(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "demo"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = done.stdout.rpartition("summary")[2]
    assert "1.0.0 complete; 1.0.1 halted" in summary
    assert summary.count("on 1.0.0") == 2
    assert "pending on target" in (tmp_path / "demo" / "report.html").read_text()
