"""What a compile is asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeward.errors import UsageError

from .budget import Budget
from .limits import Limits
from .source import Source

DEFAULT_PRECISION = "default"
AUTO_PRECISION = "auto"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class CompileRequest:
    """What to compile; `default` is the target's own precision, `auto` its fastest that passes."""

    model: str
    targets: tuple[str, ...]
    output: Path
    precisions: tuple[str, ...] = (DEFAULT_PRECISION,)
    format: str | None = None
    name: str | None = None
    revision: str | None = None
    task: str | None = None
    evaluation: Path | None = None
    calibration: Path | None = None
    accept_degraded: bool = False
    ignore_plan: bool = False
    portable: bool = False
    shapes: str | None = None
    engine: str | None = None
    ranges: tuple[str, ...] = ()
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    budget: Budget | None = None
    limits: Limits = field(default_factory=Limits)
    torch_build: str | None = None


def model_name(request: CompileRequest, source: Source) -> str:
    """Return the name that the bundles begin with; UsageError where it cannot name one."""
    name = request.name or source.id.rsplit("/", 1)[-1]
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a bundle",
            why="1 to 100 of letters, digits, dot, dash and underscore",
            next="edgeward compile … --name NAME",
        )
    return name
