"""What each task is, as data: the class that computes it, what goes in, what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeward.errors import UnsupportedError

FEATURE_EXTRACTION = "feature-extraction"
_TENSORS = "edgeward.compiler.tensor"
_GENERATION = "edgeward.compiler.generation"
_SEQUENCES = "edgeward.compiler.sequence"
_KINDS = {
    FEATURE_EXTRACTION: "vectors",
    "text-generation": "distributions",
    "text2text-generation": "distributions",
    "automatic-speech-recognition": "transcripts",
}


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One task.

    `suffixes` are how the classes of this task end in a configuration's `architectures`. `classes`
    gives the axis of each output along which one value is picked (its argmax is what a user sees).
    `reference` and `verify` are the stages of its proof, `timed` gives the request that is timed;
    each is `module:function`. `view` is what a user sees of the outputs, beside them
    (`runtimes/proof/views.py`).
    """

    name: str
    auto_class: str
    suffixes: tuple[str, ...]
    modality: str
    outputs: tuple[str, ...]
    classes: Mapping[str, int] = field(default_factory=dict)
    reference: str = f"{_TENSORS}_reference:reference"
    verify: str = f"{_TENSORS}_verify:verify"
    timed: str = f"{_TENSORS}_verify:timed"
    view: str = ""

    @property
    def reads_text(self) -> bool:
        """Whether a tokenizer belongs to it."""
        return self.modality in ("text", "text-pair", "image-text", "speech")

    @property
    def reads_pairs(self) -> bool:
        """Whether two texts may belong together."""
        return self.modality == "text-pair" or self.name == "text-classification"

    @property
    def kind(self) -> str:
        """Which tolerances hold for it.

        `vectors`, `distributions`, `transcripts`, `classes` or `tensors`.
        """
        return _KINDS.get(self.name, "classes" if self.classes else "tensors")

    @property
    def generates(self) -> bool:
        """Whether it writes a text token by token, from a cache."""
        return self.kind in ("distributions", "transcripts")


_LAST = {"logits": -1}
TASKS = {
    spec.name: spec
    for spec in (
        TaskSpec(
            FEATURE_EXTRACTION,
            "AutoModel",
            ("Model",),
            "text",
            ("last_hidden_state",),
            reference="edgeward.compiler.reference:reference",
            verify="edgeward.compiler.verify:verify",
            timed="edgeward.compiler.verify:timed",
        ),
        TaskSpec("fill-mask", "AutoModelForMaskedLM", ("ForMaskedLM",), "text", ("logits",), _LAST),
        TaskSpec(
            "text-classification",
            "AutoModelForSequenceClassification",
            ("ForSequenceClassification",),
            "text",
            ("logits",),
            _LAST,
        ),
        TaskSpec(
            "token-classification",
            "AutoModelForTokenClassification",
            ("ForTokenClassification",),
            "text",
            ("logits",),
            _LAST,
        ),
        TaskSpec(
            "question-answering",
            "AutoModelForQuestionAnswering",
            ("ForQuestionAnswering",),
            "text-pair",
            ("start_logits", "end_logits"),
            {"start_logits": -1, "end_logits": -1},
        ),
        TaskSpec(
            "text-generation",
            "AutoModelForCausalLM",
            ("ForCausalLM", "LMHeadModel"),
            "text",
            ("logits",),
            reference=f"{_GENERATION}_reference:reference",
            verify=f"{_GENERATION}_verify:verify",
            timed=f"{_GENERATION}_verify:timed",
        ),
        TaskSpec(
            "text2text-generation",
            "AutoModelForSeq2SeqLM",
            ("ForConditionalGeneration", "MTModel"),
            "text",
            ("logits",),
            reference=f"{_SEQUENCES}_reference:reference",
            verify=f"{_SEQUENCES}_verify:verify",
            timed=f"{_SEQUENCES}_verify:timed",
        ),
        TaskSpec(
            "automatic-speech-recognition",
            "AutoModelForSpeechSeq2Seq",
            ("ForConditionalGeneration",),
            "speech",
            ("logits",),
            reference=f"{_SEQUENCES}_reference:reference",
            verify=f"{_SEQUENCES}_verify:verify",
            timed=f"{_SEQUENCES}_verify:timed",
        ),
        TaskSpec(
            "image-feature-extraction", "AutoModel", ("Model",), "image", ("last_hidden_state",)
        ),
        TaskSpec(
            "image-classification",
            "AutoModelForImageClassification",
            ("ForImageClassification", "ForImageClassificationWithTeacher"),
            "image",
            ("logits",),
            _LAST,
        ),
        TaskSpec(
            "semantic-segmentation",
            "AutoModelForSemanticSegmentation",
            ("ForSemanticSegmentation",),
            "image",
            ("logits",),
            {"logits": 1},
            view="classes",
        ),
        TaskSpec(
            "object-detection",
            "AutoModelForObjectDetection",
            ("ForObjectDetection",),
            "image",
            ("logits", "pred_boxes"),
            _LAST,
            view="boxes",
        ),
        TaskSpec(
            "depth-estimation",
            "AutoModelForDepthEstimation",
            ("ForDepthEstimation",),
            "image",
            ("predicted_depth",),
            view="depth",
        ),
        TaskSpec(
            "audio-classification",
            "AutoModelForAudioClassification",
            ("ForAudioClassification", "ForSequenceClassification"),
            "audio",
            ("logits",),
            _LAST,
        ),
        TaskSpec(
            "ctc", "AutoModelForCTC", ("ForCTC",), "audio", ("logits",), _LAST, view="letters"
        ),
        TaskSpec(
            "zero-shot-image-classification",
            "AutoModelForZeroShotImageClassification",
            ("Model",),
            "image-text",
            ("logits_per_image", "logits_per_text", "text_embeds", "image_embeds"),
        ),
    )
}


def task_spec(name: str) -> TaskSpec:
    """Return a task by its name; UnsupportedError names those that there are."""
    spec = TASKS.get(name)
    if spec is None:
        raise UnsupportedError(
            f"The task {name!r} is not supported", why="supported: " + ", ".join(sorted(TASKS))
        )
    return spec
