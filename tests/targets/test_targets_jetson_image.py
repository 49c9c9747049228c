"""The Jetson's image: its Dockerfile, its lock, and its pip steps in a fresh environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile.jetson"
LOCK = ROOT / "locks" / "jetson.txt"
PLATFORMS = ("manylinux_2_17_aarch64", "manylinux2014_aarch64", "manylinux_2_28_aarch64")
REQUIREMENT = re.compile(r"([a-z0-9-]+)==([0-9][0-9a-z.]*)")


def locked() -> dict[str, str]:
    lines = [line for line in LOCK.read_text().splitlines() if not line.startswith("#")]
    pairs = [REQUIREMENT.fullmatch(line) for line in lines]
    assert all(pairs)
    return {pair[1]: pair[2] for pair in pairs if pair}


def instructions() -> list[str]:
    text = "\n".join(line for line in DOCKERFILE.read_text().splitlines() if line[:1] != "#")
    return [line for line in text.replace("\\\n", "").splitlines() if line.strip()]


def copied() -> list[str]:
    """The sources of the COPY instructions that read the build context."""
    copies = [line.split()[1:-1] for line in instructions() if line.startswith("COPY ")]
    return [each for sources in copies for each in sources if "--from" not in sources[0]]


def test_hadolint_finds_nothing() -> None:
    command = shutil.which("hadolint", path=Path(sys.executable).parent.as_posix())
    assert command is not None
    done = subprocess.run([command, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_image_runs_the_agent_unprivileged_with_a_health_check() -> None:
    lines = instructions()
    assert 'ENTRYPOINT ["edgeward", "agent", "run"]' in lines
    assert any('CMD ["edgeward", "agent", "health"]' in line for line in lines)
    assert "USER 10001" in lines
    assert 'VOLUME ["/var/lib/edgeward"]' in lines
    assert lines[0] == "ARG BASE=nvcr.io/nvidia/l4t-jetpack:r36.4.0"


def test_the_context_holds_what_is_copied_and_every_linked_room() -> None:
    kept = {
        line[1:].strip("/")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    wanted = {source.strip("/") for source in copied()}
    assert kept == wanted
    links = [path for path in (ROOT / "src" / "edgeward").iterdir() if path.is_symlink()]
    assert len(links) == 4
    for link in links:
        assert not link.readlink().is_absolute()
        assert link.resolve().name in wanted


def test_the_lock_pins_the_last_engine_for_python_3_10() -> None:
    pins = locked()
    assert pins["onnxruntime"] == "1.23.2"
    assert pins["numpy"] == "2.2.6"
    assert list(pins) == sorted(pins)


@pytest.mark.slow
def test_every_locked_wheel_resolves_for_the_jetson(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    pins = [f"{name}=={version}" for name, version in locked().items()]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"),
            *("--ignore-installed", "--target", str(tmp_path / "none"), "--report", str(report)),
            *("--only-binary=:all:", "--python-version", "3.10", *platforms, *pins),
        ],
        check=True,
        timeout=280,
    )
    resolved = {
        re.sub(r"[-_.]+", "-", each["metadata"]["name"]).lower(): each["metadata"]["version"]
        for each in json.loads(report.read_text())["install"]
    }
    assert resolved == locked()


def python_of_the_jetson() -> str:
    """Python 3.10 where there is one, else the one that runs the tests."""
    pyenv = sorted(Path.home().glob(".pyenv/versions/3.10.*/bin/python"))
    for candidate in [shutil.which("python3.10"), *map(str, pyenv)]:
        if candidate and subprocess.run([candidate, "-V"], check=False).returncode == 0:
            return candidate
    return sys.executable


@pytest.mark.slow
def test_the_pip_steps_install_an_agent_that_answers(tmp_path: Path) -> None:
    context = tmp_path / "build"
    context.mkdir()
    for source in copied():
        name = source.strip("/")
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, context / name, symlinks=True)
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, context / name)
    subprocess.run([python_of_the_jetson(), "-m", "venv", tmp_path / "venv"], check=True)
    step = next(line for line in instructions() if line.startswith("RUN pip install"))
    script = step.removeprefix("RUN ").replace("/build/", f"{context}/")
    environment = {
        "PATH": f"{tmp_path}/venv/bin:/usr/bin:/bin",
        "CONSTRAINTS": "locks/jetson.txt",
        **_pip_settings(),
    }
    subprocess.run(
        ["bash", "-o", "pipefail", "-ec", script],
        cwd=context,
        env=environment,
        check=True,
        timeout=280,
    )
    answer = subprocess.run(
        [tmp_path / "venv" / "bin" / "edgeward", "targets", "list", "-o", "json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "jetson-orin-nano" in {row["name"] for row in json.loads(answer.stdout)}
    packages = tmp_path / "venv" / "lib"
    assert next(packages.glob("python3.*/site-packages/onnxruntime-1.23.2.dist-info")).is_dir()


def _pip_settings() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key.startswith(("PIP_", "HOME"))}
