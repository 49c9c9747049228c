"""Reads pip's lines: what it is doing, and why it failed. Rules only."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgeward.errors import ToolchainError

_DOWNLOADING = re.compile(r"^\s*Downloading (\S+?)(?:-[^-\s]+)*\s+\((.+?)\)")
_WHEEL = re.compile(r"^\s*(?:Downloading|Using cached|Processing) (?:\S*/)?([A-Za-z0-9_.]+)-(\S+)")
_COLLECTING = re.compile(r"^Collecting (\S+)")
_BUILDING = re.compile(r"^\s*Building wheel for (\S+) \(")
_NO_MATCH = re.compile(r"No matching distribution found for (\S+)")
_NO_NETWORK = (
    "Failed to establish a new connection",
    "Temporary failure in name resolution",
    "Name or service not known",
    "Network is unreachable",
    "Connection refused",
    "Connection reset",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "Read timed out",
    "NewConnectionError",
    "NameResolutionError",
    "ProxyError",
    "Cannot connect to proxy",
)
_NO_SPACE = ("No space left on device", "Disk quota exceeded", "[Errno 28]", "[Errno 122]")


def phase(line: str) -> str | None:
    """Return a few words for one of pip's lines, None for one that says nothing new."""
    collecting = _COLLECTING.match(line)
    if collecting:
        return f"resolving {collecting[1].partition('==')[0]}"
    wheel = _WHEEL.match(line)
    if wheel:
        size = _DOWNLOADING.match(line)
        name = wheel[1].replace("_", "-")
        return f"downloading {name}, {size[2]}" if size else f"reading {name}"
    building = _BUILDING.match(line)
    if building:
        return f"building {building[1]} for this processor, some minutes"
    if line.startswith("Installing collected packages:"):
        return f"installing {line.count(',') + 1} packages"
    return None


def has_no_match(lines: Sequence[str]) -> bool:
    """Tell whether pip found no such version, rather than failing in another way."""
    return any(_NO_MATCH.search(line) for line in lines)


def last_words(lines: Sequence[str]) -> str:
    """Return pip's own last meaningful line."""
    errors = [line for line in lines if line.startswith("ERROR:")]
    said = errors or [line for line in lines if line.strip() and not line.startswith("[notice]")]
    return said[-1].removeprefix("ERROR:").strip()[:400] if said else "pip said nothing"


def failure(name: str, lines: Sequence[str], python: str, platform: str) -> ToolchainError:
    """Return the error for a pip that failed: full disk, no network, no such version, other."""
    last = last_words(lines)
    again = f"edgeward doctor --fix {name}"
    if _any(_NO_SPACE, lines):
        return ToolchainError(
            f"toolchain {name}: the disk is full",
            why=last,
            next=f"edgeward doctor --prune 10GB, or EDGEWARD_CACHE=/larger/disk {again}",
        )
    if _any(_NO_NETWORK, lines):
        return ToolchainError(
            f"toolchain {name}: the package index cannot be reached",
            why=f"pip: {last}",
            next=f"connect, or point pip at a mirror (PIP_INDEX_URL), then {again}",
        )
    missing = next((m for line in lines if (m := _NO_MATCH.search(line))), None)
    if missing:
        return ToolchainError(
            f"toolchain {name}: no {missing[1]} for Python {python} on {platform}",
            why=f"pip: {last}",
            next=f"pip index versions {missing[1].partition('==')[0]}, or use another Python, "
            f"then {again}",
        )
    return ToolchainError(f"toolchain {name} cannot be made", why=f"pip: {last}", next=again)


def _any(signs: Sequence[str], lines: Sequence[str]) -> bool:
    return any(sign in line for sign in signs for line in lines)
