"""Who may import whom, and what stays light: the rules of docs/architecture.md."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import ROOT

from edgeward.cli import COMMANDS, root

ROOMS = {
    "runtimes": set(),
    "targets": {"runtimes"},
    "compiler": {"targets", "runtimes"},
    "fleet": {"targets", "runtimes"},
}
DEVICE_ROOMS = ("runtimes", "targets", "fleet")
CONVERTERS = {"torch", "transformers", "onnx", "optimum", "tensorflow", "coremltools"}
HEAVY = {"numpy", "onnxruntime", "pydantic", "rich", "amqtt", "starlette", "cryptography"}
PRODUCT = [*ROOMS, "src/edgeward"]
MAX_LINES = 400


def python_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from (p for p in sorted((ROOT / folder).rglob("*.py")) if "edgeward/" not in str(p))


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_the_floors_below(room: str) -> None:
    found = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in python_files(room)
        for module in imported(path)
        if module.startswith("edgeward.")
        and module.split(".")[1] in ROOMS
        and module.split(".")[1] not in ROOMS[room]
        and module.split(".")[1] != room
    }
    assert found == set()


# On a Mac Core ML is reached through coremltools alone.
INTERFACES = {"runtimes/engines/coreml.py: coremltools"}


@pytest.mark.parametrize("room", DEVICE_ROOMS)
def test_nothing_that_a_device_installs_imports_a_converter(room: str) -> None:
    found = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in python_files(room)
        for module in imported(path)
        if module.partition(".")[0] in CONVERTERS
    }
    assert found <= INTERFACES


def test_no_relative_import_leaves_its_room() -> None:
    found = []
    for room in ROOMS:
        for path in python_files(room):
            depth = len(path.relative_to(ROOT).parts) - 1
            nodes = [
                n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)
            ]
            found += [str(path) for node in nodes if node.level > depth]
    assert found == []


@pytest.mark.parametrize("folder", [*PRODUCT, "tests", "examples", "benchmarks", "locks"])
def test_files_stay_short(folder: str) -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in (ROOT / folder).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert long == {}


def test_every_verb_has_its_command_and_tells_what_it_does() -> None:
    for name in COMMANDS:
        command = root.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        assert command.get_short_help_str(200).rstrip("."), name


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["compile", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from edgeward.cli import main\n"
        f"sys.argv[1:] = {arguments!r}\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        f"heavy = {HEAVY | CONVERTERS!r} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_public_names_stand_where_the_documents_say() -> None:
    import edgeward
    from edgeward.runtimes import load

    assert callable(load)
    assert edgeward.__version__
