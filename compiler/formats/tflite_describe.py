"""What a TFLite file says of itself to other tools, and which delegates take its operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgeward.compiler.stage_context import StageContext
from edgeward.compiler.tasks import task_spec
from edgeward.runtimes.engines.litert_file import read_tflite
from edgeward.runtimes.tasks.labels import read_config, read_labels
from edgeward.runtimes.tasks.waveforms import Waveforms

from .tflite_delegates import left_out, words
from .tflite_mediapipe_tokenizer import vocabulary
from .tflite_metadata import About, write_described
from .tflite_options import MEDIAPIPE_FILE

FILE = "model.tflite"


def describe(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write the file with its metadata and labels inside; say what delegates leave out."""
    target = context.out / FILE
    assets, spec = context.inputs["assets"], task_spec(params["task"])
    labels = read_labels(read_config(assets)) if spec.classes else ()
    about = About(
        name=params["name"],
        license=params["license"],
        task=spec.name,
        labels=labels,
        assets=assets,
    )
    written: list[str] = []
    for source in sorted(context.inputs["model"].glob("*.tflite")):
        told_of = _for_mediapipe(about) if source.name == MEDIAPIPE_FILE else about
        written += write_described(source, context.out / source.name, told_of)
    told = read_tflite(target)
    counted = Counter(one.name for graph in told.graphs for one in graph.operators)
    refused = left_out(target, told)
    return {
        "operators": ", ".join(f"{name} {count}" for name, count in sorted(counted.items())),
        "delegates": words(refused),
        "findings": [],
        "files": [],
        "metadata": sorted(told.metadata),
        "summary": f"{', '.join(written) or 'no associated files'}; {words(refused)}"[:300],
    }


def _for_mediapipe(about: About) -> About:
    modality = task_spec(about.task).modality
    if modality == "text":
        return replace(about, vocabulary=vocabulary(about.assets))
    return replace(about, rate=Waveforms(about.assets).rate if modality == "audio" else 0)
