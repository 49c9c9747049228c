"""Makes one toolchain's virtual environment: venv, base layer, pip, checks."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import edgeward
from edgeward.errors import ToolchainError

from ..installed import installed_versions
from ..words import size_words
from .base_link import link_base
from .from_source import build_settings, require_compiler, unpack
from .lock import Unpacked
from .pip import Say, install_command, pip_command, run_lines
from .pip_words import failure, has_no_match, phase
from .site import Site

_TORCH_INDEX = "https://download.pytorch.org/whl/"
_IMPORT_WORKER = """
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location(
    "edgeward", sys.argv[1], submodule_search_locations=[os.path.dirname(sys.argv[1])])
sys.modules["edgeward"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
import edgeward.compiler.worker
"""


def build(site: Site, say: Say, keep: int) -> None:
    """Make the environment in an empty place and check it.

    `keep` is the descriptor of the toolchain's lock. Raises ToolchainError.
    """
    _require_disk(site)
    require_compiler(site.lock)
    steps = _Steps(site, say, keep)
    steps.make_venv()
    if site.base is not None:
        link_base(site, site.base)
    if site.lock.torch is not None:
        steps.install_torch()
    if site.lock.pins:
        steps.install_pins()
    for wanted in site.lock.unpacked:
        steps.unpack(wanted)
    steps.check()


def can_import_worker(python: Path, keep: int) -> str | None:
    """Return None where a stage's process could start, else its last line."""
    command: list[str | Path] = [python, "-I", "-c", _IMPORT_WORKER, edgeward.__file__]
    try:
        code, lines = run_lines(command, say=lambda _: None, read=lambda _: None, keep=keep)
    except OSError as error:
        return str(error)
    return None if code == 0 else (lines or [f"exit status {code}"])[-1]


class _Steps:
    def __init__(self, site: Site, say: Say, keep: int) -> None:
        self._site = site
        self._say = say
        self._keep = keep

    def make_venv(self) -> None:
        site = self._site
        self._say("making a virtual environment")
        # A layer sees the base's pip, and so needs none of its own.
        pip = ["--without-pip"] if site.base is not None else []
        code, lines = self._run(
            [site.interpreter.path, "-I", "-m", "venv", "--clear", *pip, site.folder]
        )
        if code == 0:
            return
        if any("ensurepip" in line for line in lines):
            raise ToolchainError(
                f"toolchain {site.lock.name}: this Python cannot make virtual environments",
                why="Its ensurepip module is missing.",
                next=f"apt install python{site.interpreter.version}-venv",
            )
        raise self._failure(lines)

    def install_torch(self) -> None:
        """Install the build of torch that was asked for, from wherever the user's pip finds it.

        The lock holds the CPU build's dependencies; a CUDA build brings those of its own.
        """
        site = self._site
        pin = _torch_pin(site)
        self._say(f"looking for {pin[0]}")
        alone = ["--no-deps"] if site.torch_build == "cpu" else []
        constraints = self._write("constraints.txt", site.lock.pins)
        command = install_command(site.python, constraints, *alone, *pin)
        code, lines = self._run(command)
        if code != 0 and has_no_match(lines) and sys.platform != "darwin":
            index = f"--extra-index-url={_TORCH_INDEX}{site.torch_build}"
            code, lines = self._run([*command, index])
        if code != 0:
            raise self._failure(lines)

    def install_pins(self) -> None:
        """Install all that the lock names, and nothing that would change torch.

        The constraints leave out what is asked for: pip words a version that does not exist as a
        conflict where it is both.
        """
        site = self._site
        self._say(f"looking for {len(site.lock.pins)} packages")
        wanted = self._write("requirements.txt", site.lock.pins)
        constraints = self._write("constraints.txt", _torch_pin(site))
        command = install_command(
            site.python,
            constraints,
            "--no-deps",
            "--requirement",
            wanted,
            compiled=site.lock.compiled,
        )
        code, lines = self._run(command, build_settings(site.lock))
        if code != 0:
            raise self._failure(lines)

    def unpack(self, wanted: Unpacked) -> None:
        """Take some files out of a source distribution."""
        site = self._site
        self._say(f"looking for the source of {wanted.pin}")
        scratch = site.folder / "sources"
        name = wanted.pin.partition("==")[0]
        source = (f"--no-binary={name}", "--no-deps", "--dest", scratch, wanted.pin)
        code, lines = self._run(pip_command(site.python, "download", *source))
        if code != 0:
            raise self._failure(lines)
        unpack(next(scratch.iterdir()), wanted, site.site_packages)
        shutil.rmtree(scratch)

    def check(self) -> None:
        """Refuse an environment that lacks something, holds another torch, or cannot work."""
        site = self._site
        self._say("checking")
        code, lines = self._run(pip_command(site.python, "check"))
        if code != 0:
            last = lines[-1] if lines else ""
            raise ToolchainError(f"the lock of {site.lock.name} contradicts itself", why=last)
        held = _held_torch(site)
        if site.torch is not None and held != site.torch:
            raise ToolchainError(
                f"toolchain {site.lock.name} holds torch {held}, asked was {site.torch}",
                why="A layer must not change torch.",
                next=f"edgeward doctor --fix {site.lock.name}",
            )
        trouble = can_import_worker(site.python, self._keep)
        if trouble is not None:
            raise ToolchainError(
                f"toolchain {site.lock.name} cannot run a stage's process", why=trouble
            )

    def _write(self, name: str, lines: Sequence[str]) -> Path:
        path = self._site.folder / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    def _run(
        self, command: list[str | Path], settings: Mapping[str, str] | None = None
    ) -> tuple[int, list[str]]:
        return run_lines(command, say=self._say, read=phase, keep=self._keep, settings=settings)

    def _failure(self, lines: list[str]) -> ToolchainError:
        machine = f"{sys.platform}-{platform.machine()}"
        return failure(self._site.lock.name, lines, self._site.interpreter.version, machine)


def _held_torch(site: Site) -> str | None:
    places = [layer.site_packages for layer in reversed(site.layers)]
    return installed_versions(*places).get("torch")


def _torch_pin(site: Site) -> list[str]:
    return [f"torch=={site.torch}"] if site.torch is not None else []


def _require_disk(site: Site) -> None:
    free = shutil.disk_usage(site.folder.parent).free
    if free < site.lock.disk_bytes:
        raise ToolchainError(
            f"toolchain {site.lock.name} needs {size_words(site.lock.disk_bytes)} of disk, "
            f"{size_words(free)} are free",
            why=f"It would be made in {site.folder.parent}.",
            next="edgeward doctor --prune 10GB, or set EDGEWARD_CACHE to a larger disk",
        )
