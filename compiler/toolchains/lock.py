"""A lock file as data: exact pins and what it is layered over."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgeward.errors import ToolchainError

BUILDS = ("cpu", "cu126", "cu128", "cu130")
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;]+)\s*(;.*)?$")
_HEADER = re.compile(r"^#\s*([a-z]+):\s*(.+?)\s*$")
_UNITS = {"MiB": 1 << 20, "GiB": 1 << 30}
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Unpacked:
    """Files and folders of a source distribution that go into site-packages as they are."""

    pin: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lock:
    """What a toolchain holds: `pins` are requirement lines, `pythons` the minor versions tried.

    `compiled` are packages that are built here, for this processor, with `settings` as environment
    variables; `unpacked` are sources of which only a part is wanted.
    """

    name: str
    description: str
    base: str | None
    pythons: tuple[str, ...]
    disk_bytes: int
    pins: tuple[str, ...]
    torch: str | None
    compiled: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    unpacked: tuple[Unpacked, ...] = ()

    def allows(self, python: str) -> bool:
        """Tell whether the lock was resolved for a Python such as `3.11`."""
        return not self.pythons or python in self.pythons


def read_lock(name: str, path: Path) -> Lock:
    """Read a lock file; raises ToolchainError where it cannot be read or a pin is not exact."""
    try:
        text = path.read_bytes()[:_MAX_BYTES].decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ToolchainError(f"the lock of {name} cannot be read", why=str(error)) from error
    return parse_lock(name, text)


def parse_lock(name: str, text: str) -> Lock:
    """Parse `# key: value` headers and `name==version` pins.

    Headers are description, base, python, disk, compile (names), setting (NAME=VALUE, repeatable)
    and unpack (a pin and paths in its source, repeatable).
    """
    settings: list[str] = []
    unpacked: list[Unpacked] = []
    headers: dict[str, str] = {}
    pins: list[str] = []
    torch: str | None = None
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        header = _HEADER.match(line)
        if header and header[1] == "setting":
            settings.append(header[2])
        elif header and header[1] == "unpack":
            pinned, *paths = header[2].split()
            unpacked.append(Unpacked(pinned, tuple(paths)))
        elif header:
            headers[header[1]] = header[2]
        if not line or line.startswith("#"):
            continue
        pin = _PIN.match(line)
        if pin is None:
            raise ToolchainError(
                f"line {number} of the lock of {name} is not an exact pin: {line[:100]}",
                why="A lock holds lines such as numpy==2.4.6, with an environment marker at most.",
            )
        if pin[1].lower() == "torch":
            torch = pin[2].partition("+")[0]
            continue
        pins.append(line)
    return Lock(
        name=name,
        description=headers.get("description", ""),
        base=headers.get("base"),
        pythons=tuple(headers.get("python", "").split()),
        disk_bytes=_size(headers.get("disk", "0 MiB")),
        pins=tuple(pins),
        torch=torch,
        compiled=tuple(headers.get("compile", "").split()),
        settings=tuple(settings),
        unpacked=tuple(unpacked),
    )


def torch_version(version: str, build: str, platform: str) -> str:
    """Return the version that names a build of torch: macOS has one build, which has no name."""
    if platform == "darwin":
        return version
    return f"{version}+{build}"


def check_build(build: str) -> str:
    """Return a torch build's name; raises ToolchainError for an unknown one."""
    if build in BUILDS:
        return build
    raise ToolchainError(
        f"there is no build of torch named {build}",
        why=f"Known: {', '.join(BUILDS)}.",
        next="unset EDGEWARD_TORCH (the CPU build suffices to compile)",
    )


def _size(text: str) -> int:
    number, _, unit = text.partition(" ")
    try:
        return int(float(number) * _UNITS[unit])
    except (ValueError, KeyError):
        return 0
