"""Compressed checkpoints: FP8, INT8, INT4 and FP4 weights in the Hub's own layout.

llm-compressor writes them for vLLM, SGLang and transformers; ModelOpt for TensorRT-LLM, where
`--engine tensorrt-llm` asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeward.compiler.architectures import DECODERS, Coverage
from edgeward.compiler.recipe import RECIPES
from edgeward.compiler.stages import JSON, StageInput, StageResult, StageSpec
from edgeward.compiler.tolerance import Tolerances
from edgeward.errors import UnsupportedError, UsageError
from edgeward.targets.profile import Profile

from .base import Artifact, Job, Stages
from .compressed_checkpoint import MODELOPT_CONFIG
from .compressed_schemes import (
    CPU_ENGINE,
    ENGINE_PRECISIONS,
    MODELOPT_ENGINE,
    SCHEMES,
    WEIGHT_GROUPS,
)
from .compressed_tolerances import TOLERANCES

ENGINE = CPU_ENGINE
GROUP_SIZE = "group-size"
OPTIONS = frozenset({GROUP_SIZE})
_ENGINE_MODULE = "edgeward.compiler.torch_engine"
_WORKERS = {
    "compressed": "edgeward.compiler.formats.compressed_worker:compress",
    "modelopt": "edgeward.compiler.formats.compressed_modelopt:compress",
}
_MOST_TOKENS = 1 << 16
_EXPERTS = (
    "its experts are written one by one, which vLLM reads and transformers does not: there would "
    "be no proof"
)
REFUSED: Mapping[str, str] = {
    "falcon": "its layers are of a class of their own, which compressed-tensors does not read back",
    "gpt2": "its layers are Conv1D, which llm-compressor does not round",
    "mixtral": _EXPERTS,
    "qwen2_moe": _EXPERTS,
    "qwen3_moe": _EXPERTS,
}


def precisions() -> Sequence[str]:
    """The precisions that it can make."""
    return [precision for name, precision in RECIPES if name == "compressed"]


def coverage() -> Coverage:
    """Text generators; `check` says of a few why they cannot be had."""
    return Coverage({"text-generation": DECODERS})


def tolerances() -> Mapping[tuple[str, str], Tolerances]:
    """How close its artifacts stay, by precision and by what a task's outputs are."""
    return TOLERANCES


def check(job: Job) -> None:
    """Refuse models whose layers cannot be rounded, engines that do not load the precision."""
    why = REFUSED.get(job.source.model_type)
    if why is not None:
        raise UnsupportedError(
            f"{job.source.architecture} has no compressed checkpoint",
            why=why,
            next="edgeward compile … --format onnx",
        )
    engines_for(job)
    _group_size(job)


def toolchain() -> str:
    """The toolchain that the reference and the proof run in."""
    return "compressed"


def engines_for(job: Job) -> tuple[str, ...]:
    """Return the target's engines that load the precision: the one asked for, else all of them.

    Raises UnsupportedError where there is none.
    """
    precision = job.recipe.precision
    named = [engine.name for engine in job.profile.engines if engine.name in ENGINE_PRECISIONS]
    # What llm-compressor writes is for the others; TensorRT-LLM's own is made where it is wanted.
    usual = [name for name in named if name != MODELOPT_ENGINE] or named
    asked = [job.engine] if job.engine is not None else usual
    found = tuple(name for name in asked if precision in ENGINE_PRECISIONS.get(name, ()))
    if found:
        return found
    whose = job.engine or job.profile.name
    loads = sorted(frozenset().union(*(ENGINE_PRECISIONS.get(name, ()) for name in asked)))
    raise UnsupportedError(
        f"{whose} does not load {precision}",
        why=f"it loads: {', '.join(loads) or 'no compressed checkpoint'}",
        next=f"edgeward targets show {job.profile.name}",
    )


def build(job: Job, stages: Stages) -> Artifact:
    """Round the weights in one stage, whose folder is the checkpoint."""
    done = stages.run(_compress(job))
    entry, *others = (str(name) for name in _listed(done, "files"))
    assets = done.path / "assets"
    more = [*others, *([MODELOPT_CONFIG] if _is_modelopt(job) else [])]
    group = done.data["group_size"]
    return Artifact(
        model=done.as_input(f"assets/{entry}"),
        name=entry,
        engine_toolchain="compressed",
        results=(done,),
        stages=("compress",),
        options={
            "rounded_layers": int(str(done.data["rounded"])),
            "kept_layers": ",".join(str(name) for name in _listed(done, "kept"))[:2000],
            **({"group_size": int(str(group))} if group is not None else {}),
        },
        files={name: Path(assets / name) for name in more},
        engine_module=_ENGINE_MODULE,
        pending=_pending(job),
        verified="reference-evaluator",
    )


def engine_options(job: Job) -> dict[str, str | int | float | bool]:
    """Who made it, and which of the target's engines load it."""
    producer = "modelopt" if _is_modelopt(job) else "llm-compressor"
    return {"producer": producer, "engines": ",".join(engines_for(job))}


def _compress(job: Job) -> StageSpec:
    source, worker = job.source, "modelopt" if _is_modelopt(job) else "compressed"
    return StageSpec(
        name="compress",
        call=_WORKERS[worker],
        version=2,
        inputs={"source": StageInput(source.folder, source.digest)},
        params={
            "precision": job.recipe.precision,
            "texts": list(job.calibration),
            "tokens": _MOST_TOKENS,
            "files": list(source.files),
            **_sizes(job),
        },
        toolchain=worker,
        estimate_bytes=source.weight_bytes * 2 + (2 << 30),
        resumes=worker == "compressed",
    )


def _sizes(job: Job) -> dict[str, JSON]:
    size = _group_size(job)
    return {} if size is None else {"group_size": size}


def _group_size(job: Job) -> int | None:
    """Return `--group-size`; UsageError where it is none, or the precision has no groups."""
    given = job.options.get(GROUP_SIZE)
    if not given:
        return None
    if SCHEMES[job.recipe.precision].groups != WEIGHT_GROUPS:
        raise UsageError(
            f"{job.recipe.precision} has no group size of its choice",
            why="its numbers fix how many weights share a scale, or a row does",
        )
    if len(given) > 1 or not given[0].isdecimal() or int(given[0]) not in WEIGHT_GROUPS:
        raise UsageError(
            f"{GROUP_SIZE}={given[-1][:20]} is no group size",
            why=f"engines have kernels for {', '.join(map(str, WEIGHT_GROUPS))}",
        )
    return int(given[0])


def _is_modelopt(job: Job) -> bool:
    return engines_for(job)[0] == MODELOPT_ENGINE


def _pending(job: Job) -> tuple[str, ...]:
    """What a processor cannot show: it rounds as the kernels do and multiplies in float."""
    others = [name for name in engines_for(job) if name != CPU_ENGINE]
    return tuple(f"{name} on {_gpu(job.profile)}: its kernels were not run" for name in others)


def _gpu(profile: Profile) -> str:
    gpus = [unit.title for unit in profile.hardware.units if unit.kind == "gpu"]
    return gpus[0] if gpus else profile.title


def _listed(result: StageResult, name: str) -> list[JSON]:
    found = result.data[name]
    return found if isinstance(found, list) else []
