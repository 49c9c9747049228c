"""GGUF: llama.cpp's own converter, then its own quantisation, by importance where it is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeward.compiler.architectures import Coverage
from edgeward.compiler.recipe import RECIPES
from edgeward.compiler.stages import JSON, StageInput, StageResult, StageSpec
from edgeward.compiler.tolerance import Tolerances
from edgeward.errors import UnsupportedError, UsageError
from edgeward.runtimes.bundle.read import sha256_of
from edgeward.targets.profile import Engine, Profile

from .base import Artifact, Job, Stages
from .gguf_coverage import taken
from .gguf_finish import FINISH_OPTIONS, check_finish, finish
from .gguf_imatrix_file import read_importance
from .gguf_mixed import check_mixed, mixed_types, rate_types
from .gguf_options import TYPE_OPTIONS, choices, importance
from .gguf_tolerances import TOLERANCES
from .gguf_types import FORMAT, KINDS, MIXED
from .gguf_view import extras_of
from .gguf_vocabulary import VocabularyProof, prove_vocabulary

OPTIONS = TYPE_OPTIONS | FINISH_OPTIONS
ENGINE = "llama"
ENGINE_TOOLCHAIN, ENGINE_VERSION = "llama", "0.3.36"
_HERE = "edgeward.compiler.formats"
_MODEL, _IMPORTANCE, _ASSETS = "model.gguf", "imatrix.gguf", "assets"
_WRITTEN = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}
_BUFFERS = 1 << 30


def precisions() -> Sequence[str]:
    """The precisions that it can make."""
    return [precision for name, precision in RECIPES if name == FORMAT]


def coverage() -> Coverage:
    """Which models it takes, told by their configuration alone."""
    return taken()


def tolerances() -> Mapping[tuple[str, str], Tolerances]:
    """How close its artifacts stay, by precision and by what a task's outputs are."""
    return TOLERANCES


def check(job: Job) -> None:
    """Refuse options that cannot be followed, and a target that has no llama.cpp."""
    _engine(job.profile)
    choices(job)
    check_mixed(job)
    given = importance(job)
    if isinstance(given, Path):
        read_importance(given)
    check_finish(job)
    if job.shapes:
        raise UsageError("GGUF takes no fixed shapes", why="llama.cpp runs any length")


def toolchain() -> str:
    """The toolchain that its stages and the reference run in."""
    return "gguf"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A float GGUF file with what is known of it before its weights are rounded.

    `done` are the stages so far by their names; `rates` is what each type would cost each tensor,
    for mixed types.
    """

    model: StageInput
    done: dict[str, StageResult]
    vocabulary: VocabularyProof
    importance: StageInput | None = None

    @property
    def rates(self) -> StageResult:
        """The stage that rated the types."""
        return self.done["rate"]


def prepare(job: Job, stages: Stages) -> Prepared:
    """Convert, prove the vocabulary, and weigh what the precision's rounding goes by."""
    done = {"convert": stages.run(convert_stage(job))}
    converted = done["convert"].as_input(_MODEL)
    vocabulary = prove_vocabulary(job.source, converted, stages)
    done["vocabulary-reference"], done["vocabulary"] = vocabulary.results
    if KINDS[job.recipe.precision].floats:
        return Prepared(converted, done, vocabulary)
    importance = _importance(job, converted, done, stages)
    if job.recipe.precision == MIXED:
        done |= rate_types(job, converted, importance, stages)
    return Prepared(converted, done, vocabulary, importance)


def build(job: Job, stages: Stages) -> Artifact:
    """Prepare, then quantise where the precision asks for it."""
    prepared = prepare(job, stages)
    done, model = prepared.done, prepared.model
    options: dict[str, str | int | float | bool] = {}
    if not KINDS[job.recipe.precision].floats:
        mixed = job.recipe.precision == MIXED
        types = mixed_types(job, prepared.rates.data) if mixed else []
        made = stages.run(quantise_stage(job, model, prepared.importance, types))
        done["quantise"] = made
        model = made.as_input(_MODEL)
        options = _options(made)
    finished = finish(job, model, done["convert"].as_input(_ASSETS), stages)
    done |= finished.done
    return Artifact(
        model=finished.model,
        name=finished.name,
        engine_toolchain=_engine_toolchain(job.profile),
        results=tuple(done.values()),
        stages=tuple(done),
        parts=finished.parts,
        options=options,
        files=finished.files,
        metrics=prepared.vocabulary.metrics,
        findings=prepared.vocabulary.findings,
    )


def engine_options(job: Job) -> dict[str, str | int | float | bool]:
    """The providers in the order of the profile, for this precision."""
    providers = _engine(job.profile).providers_for(job.recipe.precision)
    return {"providers": ",".join(providers)} if providers else {}


def convert_stage(job: Job) -> StageSpec:
    """Return the stage that writes the model in floats: in the precision's, else in its own."""
    source = job.source
    return StageSpec(
        name="convert",
        call=f"{_HERE}.gguf_worker:convert",
        version=1,
        inputs={"source": StageInput(source.folder, source.digest)},
        params={
            "name": source.id.rsplit("/", 1)[-1],
            "task": source.task,
            "floats": _WRITTEN.get(job.recipe.precision, "stored"),
            "files": list(source.files),
            "extras": {**extras_of(source.folder)},
        },
        toolchain=toolchain(),
        estimate_bytes=source.weight_bytes // 2 + _BUFFERS,
    )


def importance_stage(job: Job, converted: StageInput) -> StageSpec:
    """Return the stage that makes an importance matrix of the calibration texts."""
    return StageSpec(
        name="imatrix",
        call=f"{_HERE}.gguf_imatrix:weigh",
        version=1,
        inputs={"model": converted},
        params={"texts": list(job.calibration), "threads": 1},
        toolchain=ENGINE_TOOLCHAIN,
        estimate_bytes=job.source.weight_bytes + _BUFFERS,
    )


def _importance(
    job: Job, converted: StageInput, done: dict[str, StageResult], stages: Stages
) -> StageInput | None:
    """The matrix that was given, or one that is made now."""
    wanted = importance(job)
    if wanted is None:
        return None
    if isinstance(wanted, Path):
        return StageInput(wanted, sha256_of(wanted))
    made = done["imatrix"] = stages.run(importance_stage(job, converted))
    return made.as_input(_IMPORTANCE)


def quantise_stage(
    job: Job,
    converted: StageInput,
    weights: StageInput | None,
    types: Sequence[tuple[str, str]] = (),
) -> StageSpec:
    """Return the stage that quantises what was converted, by an importance matrix if there is.

    `types` are of single tensors, behind those that a user gave.
    """
    chosen = choices(job)
    beside = {} if weights is None else {"importance": weights}
    tensors: list[JSON] = [list(one) for one in (*chosen.tensors, *types)]
    return StageSpec(
        name="quantise",
        call=f"{_HERE}.gguf_quantise:quantise",
        version=1,
        inputs={"model": converted, **beside},
        params={
            "precision": job.recipe.precision,
            "tensors": tensors,
            "output": chosen.output,
            "embedding": chosen.embedding,
            "threads": 1,
        },
        toolchain=ENGINE_TOOLCHAIN,
        estimate_bytes=_BUFFERS,
    )


def _options(made: StageResult) -> dict[str, str | int | float | bool]:
    """What the manifest says of tensors that got another type than the precision's own."""
    types, fallbacks = made.data["types"], made.data["fallbacks"]
    if not isinstance(types, dict) or not isinstance(fallbacks, list):
        return {}
    listed = " ".join(f"{name}:{count}" for name, count in types.items())
    told: dict[str, str | int | float | bool] = {"tensor_types": listed}
    if fallbacks:
        told["fallback_tensors"] = len(fallbacks)
    return told


def _engine(profile: Profile) -> Engine:
    for engine in profile.engines:
        if engine.name == ENGINE:
            return engine
    raise UnsupportedError(
        f"{profile.name} runs no GGUF",
        why="its profile names no llama engine",
        next=f"edgeward targets show {profile.name}",
    )


def _engine_toolchain(profile: Profile) -> str:
    engine = _engine(profile)
    if engine.allows(ENGINE_VERSION):
        return ENGINE_TOOLCHAIN
    raise UnsupportedError(
        f"No llama.cpp at hand is one that {profile.name} runs",
        why=f"it wants llama-cpp-python {engine.version}, there is {ENGINE_VERSION}",
    )
