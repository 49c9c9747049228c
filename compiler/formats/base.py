"""What a format gives the compile: its stages, as data."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edgeward.compiler.architectures import Coverage
from edgeward.compiler.given_data import GivenData
from edgeward.compiler.recipe import Recipe
from edgeward.compiler.shapes import DYNAMIC, FixedShapes
from edgeward.compiler.source import Source
from edgeward.compiler.stages import JSON, StageInput, StageResult, StageSpec
from edgeward.compiler.tolerance import Tolerances
from edgeward.targets.profile import Profile


@dataclass(frozen=True, slots=True)
class Job:
    """One bundle to make; `calibration` are texts that show what activations are like.

    `given` is the calibration set as a user gave it: pairs of texts, pictures or sounds too.
    `portable` asks for operators that every engine of the format runs. `engine` is the one that was
    asked for by name, `ranges` are those of axes as `sequence=1:128:512`, for engines that are
    built for them. `options` are the format's own, by name, each with its values as given.
    `original` is what the artifact is held against where that is not the source itself.
    """

    source: Source
    profile: Profile
    recipe: Recipe
    calibration: tuple[str, ...] = ()
    portable: bool = False
    shapes: FixedShapes = DYNAMIC
    engine: str | None = None
    ranges: tuple[str, ...] = ()
    given: GivenData | None = None
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    original: Source | None = None


@dataclass(frozen=True, slots=True)
class Artifact:
    """What the format's last stage left: the file that the engine loads and its place.

    `results` are what its stages left, by `stages`, their names; the first holds the `assets`.
    `parts` are the model's other graphs: the stage left `ROLE.onnx` beside the model, and the value
    is its place in the bundle. `options` are what the recipe says of this artifact alone.
    Where shapes are fixed, `shapes` is what the manifest says of them, paths as the stage left
    them; `buckets` gives each of those its place in the bundle.
    `files` are what else lies in the bundle, by its place there; `metrics` is what the format's own
    stages measured of it against the original, `findings` in words what they found wrong.
    `engine_module` is what opens it in a stage where
    the engine is none of the runtimes' own; `pending` is what only the device can show; `verified`
    is what the manifest says of what ran it, `granularity` what one scale is shared by where that
    is not the recipe's.
    """

    model: StageInput
    name: str
    engine_toolchain: str
    results: tuple[StageResult, ...]
    stages: tuple[str, ...]
    parts: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    shapes: Mapping[str, JSON] = field(default_factory=dict)
    buckets: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    engine_module: str | None = None
    pending: tuple[str, ...] = ()
    verified: str = "engine"
    granularity: str = ""

    @property
    def calibration_sha256(self) -> str | None:
        """The digest of what it was calibrated on, None where it was not."""
        found = [result.data.get("calibration_sha256") for result in self.results]
        return next((digest for digest in found if isinstance(digest, str)), None)

    @property
    def size_bytes(self) -> int:
        """The size of what the engine loads: the model, what lies beside its graph, its parts."""
        folder, suffix = self.model.path.parent, self.model.path.suffix
        parts = (folder / f"{role}{suffix}" for role in self.parts)
        beside = folder.glob(f"{self.model.path.name}.*")
        return sum(map(_size, (self.model.path, *parts, *beside)))

    @property
    def layers(self) -> list[JSON]:
        """What a mixed precision chose among, as the manifest has it."""
        found = [result.data.get("layers") for result in self.results]
        return next((layers for layers in found if isinstance(layers, list)), [])


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())


class Stages(Protocol):
    """Runs one stage; the compile's runner is one."""

    def run(self, spec: StageSpec) -> StageResult:
        """Return the stage's result."""


class Format(Protocol):
    """A format's module; `OPTIONS` are the options of its own that it knows."""

    ENGINE: str
    OPTIONS: Collection[str]

    def coverage(self) -> Coverage:
        """Which models it takes, told by their configuration alone."""

    def tolerances(self) -> Mapping[tuple[str, str], Tolerances]:
        """How close its artifacts stay, by precision and by what a task's outputs are."""

    def check(self, job: Job) -> None:
        """Raise UsageError or UnsupportedError for what is known to be wrong before any work."""

    def precisions(self) -> Sequence[str]:
        """The precisions that it can make."""

    def toolchain(self) -> str:
        """The toolchain that its stages and the reference run in."""

    def build(self, job: Job, stages: Stages) -> Artifact:
        """Run the format's stages for one job."""

    def engine_options(self, job: Job) -> dict[str, str | int | float | bool]:
        """What the manifest's recipe tells the runtime."""
