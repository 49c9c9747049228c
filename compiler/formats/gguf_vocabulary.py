"""The proof of a GGUF file's vocabulary as stages: what the original says, what llama.cpp says.

A converter that does not know a tokenizer may write a wrong one and say nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeward.compiler.source import Source
from edgeward.compiler.stages import StageInput, StageResult, StageSpec
from edgeward.compiler.tasks import task_spec
from edgeward.compiler.tolerance import Bound
from edgeward.errors import ProofError

from .base import Stages

REFERENCE_TOOLCHAIN, ENGINE_TOOLCHAIN = "gguf", "llama"
METRICS = (
    "vocabulary_ids_equal",
    "vocabulary_text_equal",
    "chat_template_equal",
    "stop_tokens_equal",
)
BOUNDS = tuple(Bound(metric, 1.0) for metric in METRICS)
_HERE = "edgeward.compiler.formats.gguf_vocabulary"


@dataclass(frozen=True, slots=True)
class VocabularyProof:
    """Shares that are equal, by name; in words what departs first of each; the stages' results."""

    metrics: dict[str, float]
    findings: tuple[str, ...]
    results: tuple[StageResult, StageResult]

    def require(self) -> None:
        """Raise ProofError where anything departs."""
        if self.findings:
            raise ProofError(
                "proof failed: the GGUF's tokenizer is not the original's",
                why="; ".join(self.findings),
                next="convert it by a version of the converter that knows this tokenizer, or "
                "--accept-degraded (recorded in the manifest)",
            )


def prove_vocabulary(source: Source, model: StageInput, stages: Stages) -> VocabularyProof:
    """Hold the vocabulary of a GGUF file, or of the first of a split model's, to the original's.

    Raises ProofError where llama.cpp does not take it at all.
    """
    reference = stages.run(_reference(source))
    proof = stages.run(_proof(model, reference))
    metrics, findings = proof.data["metrics"], proof.data["findings"]
    if not isinstance(metrics, dict) or not isinstance(findings, list):
        raise ProofError("The proof of the vocabulary gave no figures", why=str(metrics)[:200])
    return VocabularyProof(
        {name: float(str(value)) for name, value in metrics.items()},
        tuple(str(words) for words in findings),
        (reference, proof),
    )


def _reference(source: Source) -> StageSpec:
    return StageSpec(
        name="vocabulary-reference",
        call=f"{_HERE}_original:reference",
        version=2,
        inputs={"source": StageInput(source.folder, source.digest)},
        params={"generates": task_spec(source.task).generates},
        toolchain=REFERENCE_TOOLCHAIN,
    )


def _proof(model: StageInput, reference: StageResult) -> StageSpec:
    return StageSpec(
        name="vocabulary",
        call=f"{_HERE}_worker:prove",
        version=2,
        inputs={"model": model, "reference": reference.as_input()},
        toolchain=ENGINE_TOOLCHAIN,
    )
