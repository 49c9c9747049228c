"""Whom an operator means: `all`, ids, or `label:NAME`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgeward.errors import UsageError

from .problems import NotThereError
from .records import DeviceRecord

_LABEL = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
_HOW = "--to all, --to ID[,ID] or --to label:NAME"


def check_label(label: str) -> str:
    """Return the label; UsageError where it is not one."""
    if not _LABEL.fullmatch(label):
        raise UsageError(
            f"Not a label: {label[:80]!r}",
            why="1 to 64 of a-z 0-9 . _ - with a letter or digit at both ends",
        )
    return label


def addressed(words: str, devices: Sequence[DeviceRecord]) -> list[str]:
    """Return the ids that `words` name; NotThereError where an id or everybody is missing."""
    if words == "all":
        found = [device.id for device in devices]
    elif words.startswith("label:"):
        label = check_label(words.removeprefix("label:"))
        found = [device.id for device in devices if label in device.labels]
    else:
        found = _by_id(words, {device.id for device in devices})
    if not found:
        raise NotThereError(
            f"No device is addressed by {words[:200]!r}", next="edgeward fleet devices"
        )
    return found


def _by_id(words: str, known: set[str]) -> list[str]:
    wanted = [word.strip() for word in words.split(",") if word.strip()]
    if not wanted:
        raise UsageError("The rollout addresses nobody", next=_HOW)
    if missing := sorted(set(wanted) - known):
        raise NotThereError(
            f"Not in the fleet: {', '.join(missing[:5])[:300]}",
            why="a device is known once it has reported",
            next="edgeward fleet devices",
        )
    return wanted
