"""What comes after a GGUF is quantised: its adapter, its files, and what lies beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeward.compiler.adapter import read_adapter
from edgeward.compiler.adapter_merge import (
    ADAPTER_OPTIONS,
    adapter_folder,
    check_adapter,
    is_merged,
)
from edgeward.compiler.stages import StageInput, StageResult, StageSpec
from edgeward.errors import UsageError
from edgeward.runtimes.engines.llama_adapter import ROLE

from .base import Job, Stages
from .gguf_adapter import MODEL_NAME, adapter_file, adapter_stage, check_separate
from .gguf_ecosystem import base_name, ecosystem_files, ecosystem_stage, file_stem
from .gguf_split import DEFAULT_SIZE, is_larger, split_size

SPLIT = "split-size"
FINISH_OPTIONS = ADAPTER_OPTIONS | {SPLIT}


@dataclass(frozen=True, slots=True)
class Finished:
    """The model as the bundle holds it: its first file, that file's name, and all that is beside.

    `done` are the stages that took part, by their names; `parts` and `files` are an Artifact's.
    """

    model: StageInput
    name: str
    done: Mapping[str, StageResult] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)


def check_finish(job: Job) -> None:
    """Refuse, before any work, options that cannot be followed."""
    _most_bytes(job)
    check_adapter(job, separate=True)
    folder = adapter_folder(job)
    if folder is not None and not is_merged(job):
        check_separate(read_adapter(folder, job.source.folder))


def finish(job: Job, model: StageInput, assets: StageInput, stages: Stages) -> Finished:
    """Run the stages behind the one that left `model`, a whole GGUF file."""
    stem = file_stem(job.source, job.recipe.precision)
    finished = Finished(model, f"{stem}.gguf")
    finished = _with_adapter(job, finished, stages)
    finished = _in_parts(job, stem, finished, stages)
    beside = stages.run(
        ecosystem_stage(
            job.source,
            stem,
            finished.model,
            assets,
            parts=[finished.name, *finished.files] if finished.files else [],
            adapter=finished.parts.get(ROLE, ""),
        )
    )
    return replace(
        finished,
        done={**finished.done, "ecosystem": beside},
        files={**finished.files, **ecosystem_files(beside)},
    )


def _with_adapter(job: Job, finished: Finished, stages: Stages) -> Finished:
    folder = adapter_folder(job)
    if folder is None or is_merged(job):
        return finished
    made = stages.run(adapter_stage(job.source, folder, finished.model))
    return replace(
        finished,
        model=made.as_input(MODEL_NAME),
        done={**finished.done, "adapter": made},
        parts={ROLE: adapter_file(base_name(job.source), folder)},
    )


def _in_parts(job: Job, stem: str, finished: Finished, stages: Stages) -> Finished:
    if not is_larger(finished.model.path, _most_bytes(job)):
        return finished
    made = stages.run(
        StageSpec(
            name="split",
            call="edgeward.compiler.formats.gguf_split:split",
            version=1,
            inputs={"model": finished.model},
            params={"stem": stem, "size": _size(job), "beside": list(finished.parts)},
            toolchain="llama",
        )
    )
    listed = made.data["parts"]
    names = [str(name) for name in listed] if isinstance(listed, list) else []
    return replace(
        finished,
        model=made.as_input(names[0]),
        name=names[0],
        done={**finished.done, "split": made},
        files={name: made.path / name for name in names[1:]},
    )


def _size(job: Job) -> str:
    given = job.options.get(SPLIT, ())
    if len(given) > 1:
        raise UsageError(f"--{SPLIT} is given more than once")
    return given[0] if given else DEFAULT_SIZE


def _most_bytes(job: Job) -> int:
    return split_size(_size(job))
