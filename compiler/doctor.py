"""What is installed, what is missing, and the command that makes or repairs it."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edgeward._version import __version__
from edgeward.errors import MissingError, ToolchainError, UsageError

from .cache_dir import cache_root
from .progress import Reporter
from .stage_cache import StageCache
from .toolchains.manager import Toolchains
from .words import size_words

COLUMNS = ("kind", "name", "state", "detail", "size", "next")
ALL_COLUMNS = ("kind", "name", "state", "detail", "size_bytes", "next")
EXTRAS: dict[str, tuple[str, ...]] = {
    "onnx": ("onnxruntime", "tokenizers"),
    "litert": ("ai-edge-litert", "tokenizers"),
    "serve": ("starlette", "uvicorn"),
    "hub": ("huggingface-hub",),
    "agent": ("paho-mqtt", "cryptography"),
    "control": ("amqtt",),
}
_GOOD = ("ready", "building")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination; `size_bytes` is None where it means nothing."""

    kind: str
    name: str
    state: str
    detail: str = ""
    size: str = ""
    size_bytes: int | None = None
    next: str = ""

    def row(self) -> dict[str, object]:
        """Return it as a row to print."""
        return asdict(self)


def examine(toolchains: Toolchains, cache: Path | None = None) -> list[Finding]:
    """Look at everything and change nothing."""
    root = cache if cache is not None else cache_root()
    return [
        Finding(
            "python", "edgeward", "ready", f"{__version__} on Python {platform.python_version()}"
        ),
        Finding("python", "platform", "ready", f"{platform.platform()}, {sys.executable}"),
        *(_extra(name) for name in EXTRAS),
        *(_toolchain(toolchains, name) for name in toolchains.names()),
        _stages(root),
        _disk(root),
    ]


def fix(toolchains: Toolchains, names: Sequence[str], reporter: Reporter) -> None:
    """Make or repair toolchains: those named, else those that are broken.

    Raises UsageError for a name that is no toolchain, ToolchainError where one cannot be made.
    """
    known = toolchains.names()
    for name in names:
        if name not in known:
            raise UsageError(
                f"{name} is not a toolchain",
                why=f"Toolchains: {', '.join(known)}. Extras are installed with pip.",
                next="edgeward doctor",
            )
    broken = [name for name in known if toolchains.state(name).state == "broken"]
    for name in names or broken:
        toolchains.ensure(name, reporter)


def select(findings: Sequence[Finding], names: Sequence[str]) -> list[Finding]:
    """Return the findings of these names, all where none is given; raises UsageError."""
    by_name = {finding.name: finding for finding in findings}
    for name in names:
        if name not in by_name:
            raise UsageError(
                f"{name} is not known", why=f"Known: {', '.join(by_name)}.", next="edgeward doctor"
            )
    return [by_name[name] for name in names] if names else list(findings)


def require(findings: Sequence[Finding]) -> None:
    """Raise MissingError where one of the findings is missing or broken."""
    bad = [finding for finding in findings if finding.state not in _GOOD]
    if bad:
        raise MissingError(
            ", ".join(f"{finding.name} is {finding.state}" for finding in bad),
            why=bad[0].detail,
            next=bad[0].next,
        )


def prune(max_bytes: int, cache: Path | None = None) -> int:
    """Remove finished stages, longest unused first, down to `max_bytes`; return the bytes freed."""
    stages = StageCache(cache if cache is not None else cache_root())
    stages.sweep()
    return stages.prune(max_bytes)


def parse_size(text: str) -> int:
    """Return the bytes of `500MB`, `10 GiB` or `0`; raises UsageError."""
    units = {"": 1, "B": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    word = text.strip().upper()
    number = word.rstrip("KMGTIB ")
    unit = word[len(number) :].strip()
    binary = unit.endswith("IB")
    scale = units.get(unit.removesuffix("IB") if binary else unit.removesuffix("B"))
    try:
        size = float(number)
    except ValueError:
        size = -1.0
    if scale is None or not 0 <= size < 1e12:
        raise UsageError(f"{text!r} is not a size", next="write 500MB, 10GB or 10GiB")
    power = {1e3: 1, 1e6: 2, 1e9: 3, 1e12: 4}.get(scale, 0)
    return int(size * (1024**power if binary else scale))


def _extra(name: str) -> Finding:
    """Look for what an optional part of edgeward (an engine, the server, the agent) imports."""
    found = {package: _version(package) for package in EXTRAS[name]}
    absent = [package for package, held in found.items() if held is None]
    label = f"extra-{name}"
    if absent:
        lacks = f"{', '.join(absent)} not installed"
        return Finding("extra", label, "missing", lacks, next=f"pip install 'edgeward[{name}]'")
    return Finding("extra", label, "ready", ", ".join(f"{p} {v}" for p, v in found.items()))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _toolchain(toolchains: Toolchains, name: str) -> Finding:
    try:
        status = toolchains.state(name)
    except ToolchainError as error:
        return Finding("toolchain", name, "broken", error.what, next=error.next)
    detail = status.reason if status.state == "broken" else status.description
    size = size_words(status.size_bytes) if status.size_bytes else ""
    return Finding(
        "toolchain", name, status.state, detail, size, status.size_bytes, next=status.fix
    )


def _stages(root: Path) -> Finding:
    size = StageCache(root).size()
    hint = "edgeward doctor --prune 10GB" if size else ""
    return Finding("cache", "stages", "ready", str(root), size_words(size), size, hint)


def _disk(root: Path) -> Finding:
    place = root
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    return Finding("cache", "disk", "ready", f"free on {place}", size_words(free), free)
