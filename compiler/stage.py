"""A stage as data: what it reads, what it was, what it left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeward.runtimes.bundle.canonical import JSON, digest


@dataclass(frozen=True, slots=True)
class StageInput:
    """A file or folder and the digest of its content, which alone decides about running again."""

    path: Path
    digest: str


@dataclass(frozen=True, slots=True)
class StageSpec:
    """A pure function of content-addressed inputs.

    `call` is `package.module:function`, `version` grows when the function's results change, a
    toolchain of None is this Python's own environment (a child process too). `estimate_bytes` is
    the memory it is thought to need: it enters error messages, never the key. One that `resumes`
    gets a folder that an interruption leaves alone.
    """

    name: str
    call: str
    version: int
    inputs: Mapping[str, StageInput] = field(default_factory=dict)
    params: Mapping[str, JSON] = field(default_factory=dict)
    toolchain: str | None = None
    estimate_bytes: int | None = None
    resumes: bool = False


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage left: a folder of files, the dict it returned, its metrics and its cost."""

    key: str
    path: Path
    data: Mapping[str, JSON]
    metrics: Mapping[str, float]
    seconds: float
    peak_memory_bytes: int
    cached: bool
    versions: Mapping[str, str]

    def as_input(self, name: str = "") -> StageInput:
        """Return the folder (or one file of it) as the input of a later stage.

        A stage is a pure function, so its key addresses its output's content.
        """
        return StageInput(self.path / name, f"{self.key}/{name}" if name else self.key)


def stage_key(spec: StageSpec, toolchain_digest: str) -> str:
    """Return the digest of everything that decides a stage's result.

    Raises TypeError or ValueError for parameters that are not JSON.
    """
    return digest(
        {
            "name": spec.name,
            "call": spec.call,
            "version": spec.version,
            "inputs": {name: source.digest for name, source in spec.inputs.items()},
            "params": spec.params,
            "toolchain": toolchain_digest,
        }
    )
