"""The manifest's schema, version 1: what a bundle holds, where it came from, what it proved."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
)

from edgeward.errors import ManifestError

from . import paths
from .canonical import digest

SCHEMA_MAJOR, SCHEMA_MINOR = 1, 4
MANIFEST_NAME = "manifest.json"
SIGNATURE_NAME = "manifest.sig"

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Text = Annotated[str, StringConstraints(max_length=4096)]
Size = Annotated[int, Field(ge=0, le=2**53)]
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Dimension = Annotated[int, Field(ge=0, le=2**31)] | Name
Verified = Literal["engine", "reference-evaluator", "lowered", "pending-on-target"]


class _Part(BaseModel):
    """A newer minor version may add fields: they are kept out of the model, not refused."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class DequantisedFrom(_Part):
    """What the original was made of, where it was no plain float model: `types` counts its tensors.

    `checks` are the figures of the floats against the format's own engine: `tokens` that were
    compared, `kl_mean` in nats and `top1`, or `cosine`; empty where there was none to ask.
    """

    format: Name
    types: dict[Name, Size] = Field(default_factory=dict, max_length=64)
    sha256: Sha256
    checks: dict[Name, Number] = Field(default_factory=dict, max_length=16)

    @property
    def words(self) -> str:
        """The format and what it holds, as `gguf (Q4_1 x 210)`."""
        listed = ", ".join(f"{kind} x {count}" for kind, count in self.types.items())
        return f"{self.format} ({listed})"


class Source(_Part):
    """The model that was compiled; `weights_sha256` is of the floats, dequantised or not."""

    id: Name
    revision: Text = ""
    license: Text = ""
    architecture: Name
    weights_sha256: Sha256
    dequantised_from: DequantisedFrom | None = None


class TargetRef(_Part):
    """The profile that it was compiled for, by name and content."""

    name: Name
    digest: Sha256


class Layers(_Part):
    """Weights that got these bits, and what rounding them to the fewest cost on calibration data.

    `error` is the divergence of the logits in nats, else the outputs' relative squared error.
    """

    name: Name
    weights: Annotated[int, Field(ge=1, le=2**31)]
    bits: Annotated[int, Field(ge=1, le=64)]
    error: Number


class Recipe(_Part):
    """How it was compiled; `layers` are those that a mixed precision chose among."""

    format: Name
    precision: Name
    granularity: Text = ""
    calibration_sha256: Sha256 | None = None
    seed: int = 0
    options: dict[Name, str | int | float | bool] = Field(default_factory=dict, max_length=64)
    layers: list[Layers] = Field(default_factory=list, max_length=256)


class FileEntry(_Part):
    """One file of the bundle."""

    path: Name
    size: Size
    sha256: Sha256

    @field_validator("path")
    @classmethod
    def _is_safe(cls, path: str) -> str:
        problem = paths.problem_with(path)
        if problem or path in (MANIFEST_NAME, SIGNATURE_NAME):
            raise ValueError(problem or "the manifest cannot list itself")
        return path


class TensorSpec(_Part):
    """An input or output of the graph; a dimension is a number or a symbol's name."""

    name: Name
    dtype: Name
    shape: list[Dimension] = Field(max_length=16)


class Bucket(_Part):
    """One graph of fixed shapes: its file, and the size of each axis that inputs name."""

    path: Name
    sizes: dict[Name, Annotated[int, Field(ge=1, le=2**31)]] = Field(min_length=1, max_length=16)


class Check(_Part):
    """One figure of a proof beside what it had to reach."""

    metric: Name
    value: Number
    bound: Number
    direction: Literal["at-least", "at-most"]

    @property
    def passed(self) -> bool:
        """Whether the value is on the right side of the bound."""
        if self.direction == "at-least":
            return self.value >= self.bound
        return self.value <= self.bound

    @property
    def shortfall(self) -> str:
        """How it falls short, in words."""
        side = "below" if self.direction == "at-least" else "above"
        return f"{self.metric} {self.value:.6g} is {side} {self.bound:g}"


class EngineRef(_Part):
    """What ran the artifact, and where."""

    name: Name
    version: Name
    provider: Text = ""
    machine: Text = ""


class Proof(_Part):
    """What was shown of the artifact against the float32 original, and by what."""

    verified: Verified
    engine: EngineRef | None = None
    checks: list[Check] = Field(max_length=256)
    informative: dict[Name, Number] = Field(default_factory=dict, max_length=256)
    evaluation_sha256: Sha256 | None = None
    untraced_shapes: list[list[Size]] = Field(default_factory=list, max_length=64)
    pending_on_target: list[Text] = Field(default_factory=list, max_length=64)
    degraded: bool = False

    @property
    def figures(self) -> dict[str, float]:
        """Everything that was measured, held to a tolerance or not."""
        return {**self.informative, **{check.metric: check.value for check in self.checks}}

    @property
    def failures(self) -> list[Check]:
        """The checks that fell short."""
        return [check for check in self.checks if not check.passed]


class Performance(_Part):
    """What was predicted and what was measured, in milliseconds and bytes."""

    predicted: dict[Name, Number] = Field(default_factory=dict, max_length=64)
    measured: dict[Name, Number] = Field(default_factory=dict, max_length=64)
    machine: dict[Name, Text] = Field(default_factory=dict, max_length=64)


class StageRecord(_Part):
    """One stage of the compile, as it went when it really ran."""

    name: Name
    key: Sha256
    seconds: Seconds
    peak_memory_bytes: Size


class Tried(_Part):
    """One recipe that a search tried; `time_ratio` is over the exact one's, in one run."""

    precision: Name
    passed: bool
    reason: Text = ""
    time_ratio: Number | None = None


class Golden(_Part):
    """The inputs that any machine can run the proof on again."""

    path: Name
    cases: Annotated[int, Field(ge=1, le=10_000)]
    tolerances: list[Check] = Field(default_factory=list, max_length=64)


class Manifest(_Part):
    """The whole document; `parts` are the model's graphs beside the entry, by their role.

    Where shapes are fixed, `buckets` are the graphs, the entry the largest of them; `inputs` and
    `outputs` then name what a request may vary, and `padding` is what pads an input, else zero.
    """

    schema_version: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,6}\.[0-9]{1,6}$")]
    name: Name
    task: Name
    entry: Name
    source: Source
    target: TargetRef
    recipe: Recipe
    files: list[FileEntry] = Field(min_length=1, max_length=10_000)
    inputs: list[TensorSpec] = Field(max_length=1024)
    outputs: list[TensorSpec] = Field(max_length=1024)
    proof: Proof
    golden: Golden | None = None
    performance: Performance = Performance()
    tools: dict[Name, Text] = Field(default_factory=dict, max_length=256)
    stages: list[StageRecord] = Field(default_factory=list, max_length=64)
    search: list[Tried] = Field(default_factory=list, max_length=64)
    parts: dict[Name, Name] = Field(default_factory=dict, max_length=16)
    buckets: list[Bucket] = Field(default_factory=list, max_length=64)
    padding: dict[Name, Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]] = Field(
        default_factory=dict, max_length=64
    )

    @property
    def size(self) -> int:
        """All files together, in bytes."""
        return sum(file.size for file in self.files)


def schema_version() -> str:
    """Return the version that this code writes."""
    return f"{SCHEMA_MAJOR}.{SCHEMA_MINOR}"


def validate(document: Mapping[str, Any]) -> Manifest:
    """Check a parsed document from outside and return it as a manifest.

    Raises ManifestError with the field and the reason, or with what to upgrade where the
    major version is unknown.
    """
    _refuse_unknown_major(document)
    try:
        manifest = Manifest.model_validate(document)
    except (ValidationError, RecursionError) as error:
        raise ManifestError("The manifest does not follow its schema", why=reason(error)) from None
    listed = [file.path for file in manifest.files]
    if clashing := paths.collisions(listed):
        raise ManifestError("The manifest lists a path twice", why=", ".join(clashing[:5]))
    golden = [manifest.golden.path] if manifest.golden else []
    buckets = [bucket.path for bucket in manifest.buckets]
    for wanted in [manifest.entry, *manifest.parts.values(), *buckets, *golden]:
        if wanted not in listed:
            raise ManifestError("The manifest names a file that it does not list", why=wanted)
    return manifest


def reason(error: ValidationError | RecursionError) -> str:
    """Return a validation error's first findings as one line of field names and reasons."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    findings = error.errors(include_url=False, include_input=False)
    lines = [".".join(str(p) for p in f["loc"])[:120] + ": " + f["msg"] for f in findings[:3]]
    more = f" (and {len(findings) - 3} more)" if len(findings) > 3 else ""
    return "; ".join(lines) + more


def _refuse_unknown_major(document: Mapping[str, Any]) -> None:
    version = document.get("schema_version")
    if not isinstance(version, str) or not re.fullmatch(r"[0-9]{1,6}\.[0-9]{1,6}", version):
        raise ManifestError("The manifest has no schema version", why="expected something like 1.0")
    if int(version.split(".")[0]) != SCHEMA_MAJOR:
        raise ManifestError(
            f"The manifest's schema is {version}, this edgeward reads {SCHEMA_MAJOR}.x",
            why="a newer major version may mean something else by the same field",
            next="pip install --upgrade edgeward",
        )


def manifest_digest(document: Mapping[str, Any]) -> str:
    """Return the name of a bundle: the sha256 of its canonical manifest."""
    return digest(dict(document))
