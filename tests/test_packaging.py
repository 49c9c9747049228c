"""The wheel holds the tree, a plain install is small, a device needs no converter."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from documents import ROOT
from tiny_model import make_tiny_bundle

from edgeward._version import __version__

MAX_PLAIN_MEBIBYTES = 120
PLAIN = {"edgeward", "numpy", "click", "rich", "pydantic", "safetensors"}
BROUGHT_ALONG = {
    *("annotated-types", "exceptiongroup", "markdown-it-py", "mdurl", "pydantic-core", "pygments"),
    *("tomli", "typing-extensions", "typing-inspection", "colorama", "pip", "setuptools"),
}
NOT_ON_DEVICES = {"torch", "transformers", "onnx", "optimum", "tensorflow"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Python = Path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    left_out = shutil.ignore_patterns(".venv", ".git", "demo", "build", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, tree, symlinks=True, ignore=left_out)
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(tree)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def plain(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Python:
    return installed(str(wheel), tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def device(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Python:
    return installed(f"{wheel}[onnx,serve,agent]", tmp_path_factory.mktemp("device"))


def installed(what: str, folder: Path) -> Python:
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    constraints = str(ROOT / "locks" / "dev.txt")
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-qq"]
    subprocess.run([*pip, "-c", constraints, what], check=True)
    return python


def packages(python: Python) -> set[str]:
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"],
        check=True,
        capture_output=True,
    )
    return {row["name"].lower().replace("_", "-") for row in json.loads(listed.stdout)}


def test_the_wheel_holds_the_tree_and_nothing_else(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "runtimes", "targets", "compiler", "fleet", "src/edgeward"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    tracked = [ROOT / name for name in listed.stdout.split()]
    expected = {
        "edgeward/" + str(path.relative_to(ROOT)).removeprefix("src/edgeward/")
        for path in tracked
        if path.is_file()
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == expected
    assert wheel.name == f"edgeward-{__version__}-py3-none-any.whl"


def test_a_plain_install_is_small(plain: Python) -> None:
    found = packages(plain)
    assert found >= PLAIN
    assert found - PLAIN - BROUGHT_ALONG == set()
    site = next(plain.parents[1].glob("lib/python*/site-packages"))
    brought_by_venv = ("pip", "setuptools", "pkg_resources")
    size = sum(
        path.lstat().st_size
        for path in site.rglob("*")
        if path.is_file() and not path.relative_to(site).parts[0].startswith(brought_by_venv)
    )
    assert size / 2**20 < MAX_PLAIN_MEBIBYTES


def test_a_plain_install_tells_what_is_missing(plain: Python, tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "tiny")
    edgeward = plain.with_name("edgeward")
    shown = subprocess.run([edgeward, "inspect", bundle.path], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    targets = subprocess.run([edgeward, "targets", "list"], capture_output=True, text=True)
    assert "jetson-orin-nano" in targets.stdout
    refused = subprocess.run([edgeward, "verify", bundle.path], capture_output=True, text=True)
    assert refused.returncode == 5
    assert "pip install 'edgeward[onnx]'" in refused.stderr
    for verb in ("serve", "agent run --home x", "fleet up"):
        done = subprocess.run(
            [edgeward, *verb.split(), *([str(bundle.path)] if verb == "serve" else [])],
            capture_output=True, text=True, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode != 0
        assert "Traceback" not in done.stderr, done.stderr
        assert "pip install 'edgeward[" in done.stderr, done.stderr


def test_a_device_embeds_without_torch_and_transformers(device: Python, tmp_path: Path) -> None:
    assert packages(device) & NOT_ON_DEVICES == set()
    bundle = make_tiny_bundle(tmp_path / "tiny")
    code = (
        "import sys; from edgeward.runtimes import load\n"
        f"vectors = load({str(bundle.path)!r}).embed(['Where is gate B12?'])\n"
        "assert vectors.shape[0] == 1\n"
        f"assert not {NOT_ON_DEVICES!r} & set(sys.modules)"
    )
    subprocess.run([device, "-c", code], check=True)
    edgeward = device.with_name("edgeward")
    subprocess.run([edgeward, "verify", bundle.path], check=True)


def test_types_reach_those_who_use_the_wheel(wheel: Path) -> None:
    rooms = ("", "runtimes/", "targets/", "compiler/", "fleet/")
    with zipfile.ZipFile(wheel) as archive:
        assert {f"edgeward/{room}py.typed" for room in rooms} <= set(archive.namelist())
