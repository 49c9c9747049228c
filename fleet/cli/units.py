"""What people write on the command line: durations and shares."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from ..control.place import default_home

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, None: 1.0}
HOME_OPTION = "$XDG_DATA_HOME/edgeward/fleet"


def duration(text: str) -> float:
    """Return `10s`, `30m`, `2h` or `1d` in seconds; a usage error for anything else."""
    match = _DURATION.fullmatch(str(text).strip())
    if match is None:
        raise click.BadParameter(f"{text!r} is not a duration such as 10s, 30m, 2h or 1d")
    return float(match.group(1)) * _SECONDS[match.group(2)]


def shares(text: str) -> list[float]:
    """Return `1%,10%,100%` as shares from 0 to 1; a usage error for anything else."""
    try:
        return [_share(part.strip()) for part in str(text).split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list such as 1%,10%,100%") from None


def _share(text: str) -> float:
    return float(text[:-1]) / 100 if text.endswith("%") else float(text)


def home_option(command: Any) -> Any:
    """Add --home, the fleet home."""
    return click.option(
        "--home",
        type=click.Path(file_okay=False, path_type=Path),
        default=default_home,
        show_default=HOME_OPTION,
        envvar="EDGEWARD_FLEET_HOME",
        help="The fleet home of the controller on this machine.",
    )(command)


def output_option(command: Any) -> Any:
    """Add -o, the form of a list."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json", "jsonl", "csv"]),
        default="table",
        show_default=True,
        help="The form of the result.",
    )(command)
