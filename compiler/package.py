"""The package stage: everything that was made and measured, as one bundle."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeward.errors import EdgewardError, ProofError, UsageError
from edgeward.runtimes.bundle.manifest import (
    MANIFEST_NAME,
    Check,
    DequantisedFrom,
    Tried,
    schema_version,
)
from edgeward.runtimes.bundle.read import Bundle, open_bundle
from edgeward.runtimes.bundle.write import writing_bundle
from edgeward.runtimes.proof.files import CASES_NAME

from .formats.base import Artifact, Job
from .held import tolerances_of
from .recipe import RECIPES
from .source import Source
from .stages import StageResult
from .texts import ProofTexts

_TOOLS = (
    "torch",
    "transformers",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "onnxruntime",
    "tokenizers",
    "llama-cpp-python",
    "llmcompressor",
    "compressed-tensors",
    "nvidia-modelopt",
    "coremltools",
)

_MADE_OF = ("name", "source", "target", "recipe", "stages", "search")


@dataclass(frozen=True, slots=True)
class Proved:
    """An artifact with what its proof and benchmark showed."""

    job: Job
    artifact: Artifact
    options: Mapping[str, str | int | float | bool]
    reference: StageResult
    verify: StageResult
    benchmark: StageResult | None
    checks: tuple[Check, ...]

    @property
    def metrics(self) -> dict[str, float]:
        """Everything that was measured against the original."""
        return measured_metrics(self.artifact, self.verify)

    @property
    def measured(self) -> dict[str, float]:
        """What its engine took, in milliseconds and bytes; nothing of an evaluator."""
        found = self.benchmark.data["measured"] if self.benchmark else {}
        if not isinstance(found, dict):
            raise ProofError("The benchmark gave no figures", why=str(found)[:200])
        return {name: float(str(value)) for name, value in found.items()}

    @property
    def failures(self) -> list[Check]:
        """The checks that fell short."""
        return [check for check in self.checks if not check.passed]

    @property
    def results(self) -> tuple[StageResult, ...]:
        """Every stage that took part, in order."""
        timed = () if self.benchmark is None else (self.benchmark,)
        return (*self.artifact.results, self.reference, self.verify, *timed)


def measured_metrics(artifact: Artifact, verify: StageResult) -> dict[str, float]:
    """Return what the format's stages and the verify stage measured, by name.

    Raises ProofError where the latter gave no figures.
    """
    found = verify.data["metrics"]
    if not isinstance(found, dict):
        raise ProofError("The proof gave no figures", why=str(found)[:200])
    return {**artifact.metrics, **{name: float(str(value)) for name, value in found.items()}}


def bundle_name(name: str, job: Job) -> str:
    """Return the folder's name: model, target, precision, and the format where that is not plain.

    Of several formats with a precision of this name, the first needs no mention.
    """
    recipe = job.recipe
    first = next(known for known, precision in RECIPES if precision == recipe.precision)
    called = recipe.precision if first == recipe.format else f"{recipe.format}-{recipe.precision}"
    return f"{name}-{job.profile.name}-{called}"


def package(
    proved: Proved,
    name: str,
    texts: ProofTexts,
    destination: Path,
    trail: Sequence[Tried] = (),
    predicted: Mapping[str, float] | None = None,
) -> tuple[Bundle, bool]:
    """Write the bundle, or return the one that stands there already made of the same stages.

    The flag says whether it was there; `trail` is what a search tried on the way to it, `predicted`
    what the plan said of it.
    """
    existing = _existing(destination)
    document = _document(proved, name, texts)
    document["performance"]["predicted"] = dict(predicted or {})
    document["search"] = [tried.model_dump(mode="json") for tried in trail]
    if existing is not None and _same(existing, document):
        return existing, True
    with writing_bundle(destination) as writer:
        export = proved.artifact.results[0]
        for file in proved.job.source.files:
            writer.add(file, export.path / "assets" / file)
        tokenizer = export.path / "assets" / "tokenizer.json"
        if "tokenizer.json" not in proved.job.source.files and tokenizer.is_file():
            writer.add("tokenizer.json", tokenizer)
        _add_model(writer, proved.artifact)
        for place, path in proved.artifact.files.items():
            writer.add(place, path)
        for path in sorted((proved.reference.path / "golden").iterdir()):
            writer.add(f"golden/{path.name}", path)
        writer.add_bytes("README.md", _card(proved, name).encode())
        files = [entry.model_dump(mode="json") for entry in writer.files()]
        writer.write_manifest({**document, "files": files})
    return open_bundle(destination, check="sizes"), False


def check_place(destination: Path) -> None:
    """Refuse, before any work, a place that a bundle cannot take; raises UsageError."""
    problem = _problem_with(destination)
    if problem:
        raise UsageError(
            f"No bundle can be written to {destination}",
            why=problem,
            next="edgeward compile … -o ANOTHER_FOLDER",
        )


def _problem_with(destination: Path) -> str:
    above = next(place for place in destination.absolute().parents if place.exists())
    if not above.is_dir():
        return f"{above} is a file"
    if not os.access(above, os.W_OK):
        return f"{above} cannot be written"
    if not destination.exists() or (destination / MANIFEST_NAME).is_file():
        return ""
    if not destination.is_dir() or any(destination.iterdir()):
        return "what is there is not a bundle, and would be replaced"
    return ""


def _existing(destination: Path) -> Bundle | None:
    try:
        return open_bundle(destination)
    except (EdgewardError, OSError):
        return None


def _same(bundle: Bundle, document: Mapping[str, Any]) -> bool:
    mine = bundle.manifest.model_dump(mode="json")
    return all(mine[key] == document[key] for key in _MADE_OF)


def _add_model(writer: Any, artifact: Artifact) -> None:
    """External weights keep the name by which the graph knows them."""
    model = artifact.model.path
    graphs = {artifact.name: model}
    graphs |= {place: model.parent / path for path, place in artifact.buckets.items()}
    graphs |= {
        place: model.with_name(f"{role}{model.suffix}") for role, place in artifact.parts.items()
    }
    for place, graph in graphs.items():
        if graph.is_dir():
            _add_folder(writer, Path(place).parent, graph)
            continue
        writer.add(place, graph)
        for path in sorted(graph.parent.glob(f"{graph.name}.*")):
            writer.add((Path(place).parent / path.name).as_posix(), path)


def _add_folder(writer: Any, place: Path, folder: Path) -> None:
    """A model that is a folder: the manifest names a file in it."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            writer.add((place / path.relative_to(folder)).as_posix(), path)


def _document(proved: Proved, name: str, texts: ProofTexts) -> dict[str, Any]:
    job, export = proved.job, proved.artifact.results[0]
    source = job.source
    return {
        "schema_version": schema_version(),
        "name": name,
        "task": source.task,
        "entry": proved.artifact.name,
        "parts": dict(proved.artifact.parts),
        **_shapes(proved.artifact),
        "source": {
            "id": source.id,
            "revision": source.revision,
            "license": source.license,
            "architecture": source.architecture,
            "weights_sha256": source.weights_sha256,
            "dequantised_from": _origin(source),
        },
        "target": {"name": job.profile.name, "digest": job.profile.digest},
        "recipe": {
            "format": job.recipe.format,
            "precision": job.recipe.precision,
            "granularity": proved.artifact.granularity or job.recipe.granularity,
            "calibration_sha256": proved.artifact.calibration_sha256,
            "seed": 0,
            "options": dict(proved.options),
            "layers": proved.artifact.layers,
        },
        "inputs": export.data["inputs"],
        "outputs": export.data["outputs"],
        "proof": _proof(proved, texts),
        "golden": _golden(proved, texts),
        "performance": {
            "measured": proved.measured,
            "machine": proved.benchmark.data["machine"] if proved.benchmark else {},
        },
        "tools": _tools(proved.results),
        "stages": [
            {
                "name": name,
                "key": result.key,
                "seconds": result.seconds,
                "peak_memory_bytes": result.peak_memory_bytes,
            }
            for name, result in zip(_stage_names(proved), proved.results, strict=True)
        ],
    }


def _origin(source: Source) -> dict[str, Any] | None:
    """What the floats were made of, as a reader gives it back."""
    if source.dequantised_from is None:
        return None
    return DequantisedFrom.model_validate(source.dequantised_from).model_dump(mode="json")


def _shapes(artifact: Artifact) -> dict[str, Any]:
    shapes: Any = artifact.shapes
    if not shapes:
        return {}
    buckets = [{**each, "path": artifact.buckets[each["path"]]} for each in shapes["buckets"]]
    return {"buckets": buckets, "padding": shapes["padding"]}


def _stage_names(proved: Proved) -> list[str]:
    timed = [] if proved.benchmark is None else ["benchmark"]
    return [*proved.artifact.stages, "reference", "verify", *timed]


def _proof(proved: Proved, texts: ProofTexts) -> dict[str, Any]:
    metrics = proved.metrics
    bounded = {check.metric for check in proved.checks}
    return {
        "verified": proved.artifact.verified,
        "engine": proved.verify.data["engine"],
        "checks": [check.model_dump(mode="json") for check in proved.checks],
        "informative": {k: v for k, v in metrics.items() if k not in bounded},
        "evaluation_sha256": _evaluation_sha256(proved, texts),
        "untraced_shapes": proved.verify.data.get("shapes", proved.reference.data["shapes"]),
        "pending_on_target": _pending(proved),
        "degraded": bool(proved.failures),
    }


def _evaluation_sha256(proved: Proved, texts: ProofTexts) -> str:
    """The digest of what was given; else of what the modality evaluates on, texts or not."""
    own = proved.reference.data.get("evaluation_sha256")
    return own if texts.given is None and isinstance(own, str) else texts.evaluation_sha256


def _pending(proved: Proved) -> list[str]:
    """What only the device can show: the gate runs the golden inputs there."""
    profile, pending = proved.job.profile, []
    if profile.hardware.arch != platform.machine():
        pending.append(f"{profile.hardware.arch}: proved on {platform.machine()}")
    pending += proved.artifact.pending
    providers = str(proved.options.get("providers", "")).split(",")
    pending += [f"{name}: not run here" for name in providers if name and name[:3] != "CPU"]
    if proved.options.get("engine") == "tensorrt":
        pending.append("TensorRT: its engine is built on the device (edgeward finalize), not here")
    if refused := proved.options.get("tensorrt_refused"):
        pending.append(f"TensorRT: not for this graph: {refused}")
    return pending


def _golden(proved: Proved, texts: ProofTexts) -> dict[str, Any]:
    metrics = proved.metrics
    bounds = tolerances_of(proved.job).measured(metrics).golden
    tolerances = [bound.check(metrics[bound.metric]) for bound in bounds]
    return {
        "path": CASES_NAME,
        "cases": proved.reference.data.get("cases", len(texts.golden)),
        "tolerances": [check.model_dump(mode="json") for check in tolerances],
    }


def _tools(results: Sequence[StageResult]) -> dict[str, str]:
    versions: dict[str, str] = {}
    for result in results:
        versions |= {name: v for name, v in result.versions.items() if name in _TOOLS}
    return {**versions, "python": platform.python_version()}


def _card(proved: Proved, name: str) -> str:
    source, job = proved.job.source, proved.job
    licence = f"license: {source.license}\n" if source.license else ""
    origin = _origin(source)
    made = DequantisedFrom.model_validate(origin).words if origin else ""
    dequantised = f"The original is itself dequantised from {made}.\n" if made else ""
    what = f"{source.id} ({source.architecture}) as {job.recipe.format} {job.recipe.precision}"
    return f"""---
{licence}base_model: {source.id}
library_name: {job.recipe.format}
---
# {name}

{what} for {job.profile.name}, compiled by edgeward.
The proof against the original stands in `manifest.json`; `edgeward verify` runs it again.
{dequantised}"""
