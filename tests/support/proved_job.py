"""A job as far as packaging: what its stages left, written here instead of computed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from tiny_model import TEXTS, WIDTH, tiny_cases, tiny_weights, write_tiny_model

from edgeward.compiler.formats import onnx
from edgeward.compiler.formats.base import Job
from edgeward.compiler.held import tolerances_of
from edgeward.compiler.package import Proved
from edgeward.compiler.recipe import recipe_for
from edgeward.compiler.source import Source
from edgeward.compiler.stages import StageResult, StageSpec
from edgeward.compiler.texts import ProofTexts
from edgeward.runtimes.proof.vectors import write_cases
from edgeward.targets.load import load as load_profile

PERFECT = {
    "cosine_mean": 1.0,
    "cosine_min": 1.0,
    "max_abs_difference": 0.0,
    "relative_difference": 0.0,
    "token_ids_equal": 1.0,
    "kl_mean": 0.0,
    "top1_agreement": 1.0,
    "eval_kl_mean": 0.0,
    "eval_padded_kl_mean": 0.0,
    "eval_perplexity_ratio": 1.0,
    "eval_greedy_agreement": 1.0,
    "eval_cosine_mean": 1.0,
    "eval_cosine_min": 1.0,
    "eval_rank_agreement": 1.0,
    "features_difference": 0.0,
    "pixels_difference": 0.0,
    "files_cosine_min": 1.0,
    "graph_cosine_min": 1.0,
    **{
        f"{place}{name}": value
        for place in ("", "eval_")
        for name, value in (
            ("boxes_matched", 1.0), ("boxes_iou", 1.0), ("classes_iou", 1.0),
            ("depth_error", 0.0), ("cer", 0.0), ("wer", 0.0),
        )
    },
    "eval_top1_agreement": 1.0,
    "untraced_relative_difference": 0.0,
    "vocabulary_ids_equal": 1.0,
    "vocabulary_text_equal": 1.0,
    "chat_template_equal": 1.0,
    "stop_tokens_equal": 1.0,
}  # fmt: skip
PROOF_TEXTS = ProofTexts({f"case {n}": text for n, text in enumerate(TEXTS)}, ("a", "b", "c"))
ASSETS = (
    "1_Pooling/config.json",
    "config.json",
    "modules.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
_AXES = ["batch", "sequence"]
_INPUTS = [{"name": n, "dtype": "int64", "shape": _AXES} for n in ("input_ids", "attention_mask")]
_OUTPUTS = [{"name": "last_hidden_state", "dtype": "float", "shape": [*_AXES, WIDTH]}]


def job(target: str = "kiosk-x86", precision: str = "fp32", digest: str = "d") -> Job:
    """Return a job whose source is only described."""
    source = Source(
        folder=Path("/nowhere"), id="org/tiny", revision="", license="mit",
        architecture="BertModel", model_type="bert", task="feature-extraction",
        weights_sha256="0" * 64, digest=digest, files=ASSETS, weight_bytes=1,
    )  # fmt: skip
    return Job(source, load_profile(target), recipe_for("onnx", precision))


class RecordedStages:
    """Takes every stage for finished: writes a tiny model where it would have been left."""

    def __init__(self, folder: Path, problems: tuple[str, ...] = ()) -> None:
        self.specs: list[StageSpec] = []
        self._folder = folder
        self._problems = list(problems)

    def run(self, spec: StageSpec) -> StageResult:
        """Return what the stage would have left."""
        self.specs.append(spec)
        place = self._folder / f"{len(self.specs)}-{spec.name}"
        write_tiny_model(place / "assets", tiny_weights())
        (place / "assets" / "onnx" / "model.onnx").rename(place / "model.onnx")
        for stem in spec.params.get("buckets", ()):
            (place / f"{stem}.onnx").write_bytes(stem.encode())
        write_cases(place, list(PROOF_TEXTS.golden), tiny_cases(tiny_weights()))
        return StageResult(
            key=hashlib.sha256(place.name.encode()).hexdigest(), path=place,
            data={
                "inputs": _INPUTS, "outputs": _OUTPUTS, "shapes": [[1, 5]], "fused_attentions": 0,
                "padding": {"input_ids": 3},
                "problems": self._problems,
            }, metrics={},
            seconds=1.5, peak_memory_bytes=7, cached=False,
            versions={"torch": "2.0", "leftpad": "1.0"},
        )  # fmt: skip


def proved(folder: Path, made: Job, problems: tuple[str, ...] = (), **metrics: float) -> Proved:
    """Return a job's proof with these metrics, perfect in all others."""
    stages = RecordedStages(folder, problems)
    artifact = onnx.build(made, stages)
    reference, verify, benchmark = (
        stages.run(StageSpec(name, "m:f", 1)) for name in ("reference", "verify", "benchmark")
    )
    figures: dict[str, float] = {**PERFECT, **metrics}
    verified: dict[str, Any] = {
        "metrics": figures,
        "engine": {"name": "onnxruntime", "version": "1.32.0"},
    }
    tolerances = tolerances_of(made)
    bounds = (*tolerances.golden, *tolerances.compile_only)
    return Proved(
        job=made, artifact=artifact,
        options={**onnx.engine_options(made), **artifact.options}, reference=reference,
        verify=_with(verify, verified),
        benchmark=_with(benchmark, {"measured": {"latency_p50_ms": 2.0}, "machine": {}}),
        checks=tuple(bound.check(figures[bound.metric]) for bound in bounds),
    )  # fmt: skip


def _with(result: StageResult, data: dict[str, Any]) -> StageResult:
    return StageResult(
        result.key, result.path, data, {}, result.seconds, 7, cached=False, versions={}
    )
