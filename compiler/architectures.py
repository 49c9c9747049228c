"""Which models can be compiled for which task, known from the configuration alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeward.errors import UnsupportedError

from .tasks import FEATURE_EXTRACTION, TASKS, task_spec

TEXT_ENCODERS = frozenset(
    {
        "albert",
        "bert",
        "camembert",
        "data2vec-text",
        "deberta",
        "deberta-v2",
        "distilbert",
        "electra",
        "ernie",
        "eurobert",
        "ibert",
        "megatron-bert",
        "modernbert",
        "mpnet",
        "nomic_bert",
        "rembert",
        "roberta",
        "roberta-prelayernorm",
        "splinter",
        "squeezebert",
        "xlm-roberta",
        "xlm-roberta-xl",
    }
)
_HEADED = TEXT_ENCODERS - {"splinter"}
_IMAGE_ENCODERS = frozenset(
    {
        "beit",
        "convnext",
        "convnextv2",
        "deit",
        "dinov2",
        "dinov2_with_registers",
        "mobilenet_v2",
        "mobilevit",
        "regnet",
        "resnet",
        "segformer",
        "swin",
        "swinv2",
        "vit",
    }
)
_SPEECH_ENCODERS = frozenset({"hubert", "wav2vec2", "wavlm"})
DECODERS = frozenset(
    {
        "bloom",
        "codegen",
        "cohere",
        "cohere2",
        "exaone4",
        "falcon",
        "gemma",
        "gemma2",
        "gemma3_text",
        "glm",
        "glm4",
        "gpt2",
        "gpt_bigcode",
        "gpt_neo",
        "gpt_neox",
        "gptj",
        "granite",
        "helium",
        "llama",
        "ministral",
        "mistral",
        "mixtral",
        "nemotron",
        "olmo",
        "olmo2",
        "olmo3",
        "opt",
        "phi",
        "phi3",
        "qwen2",
        "qwen2_moe",
        "qwen3",
        "qwen3_moe",
        "seed_oss",
        "smollm3",
        "stablelm",
        "starcoder2",
    }
)
WRITERS = frozenset(
    {
        "bart",
        "blenderbot",
        "blenderbot-small",
        "longt5",
        "m2m_100",
        "marian",
        "mbart",
        "mt5",
        "mvp",
        "pegasus",
        "pegasus_x",
        "plbart",
        "t5",
        "umt5",
    }
)
SPEECH_WRITERS = frozenset({"whisper"})
MODEL_TYPES: dict[str, frozenset[str]] = {
    FEATURE_EXTRACTION: TEXT_ENCODERS,
    "fill-mask": _HEADED,
    "text-classification": _HEADED,
    "token-classification": _HEADED,
    "question-answering": TEXT_ENCODERS - {"eurobert", "nomic_bert", "splinter"},
    "text-generation": DECODERS,
    "text2text-generation": WRITERS,
    "automatic-speech-recognition": SPEECH_WRITERS,
    "image-feature-extraction": _IMAGE_ENCODERS,
    "image-classification": _IMAGE_ENCODERS,
    "semantic-segmentation": frozenset({"beit", "mobilenet_v2", "mobilevit", "segformer"}),
    "object-detection": frozenset({"detr", "yolos"}),
    "depth-estimation": frozenset({"depth_anything", "dpt", "glpn"}),
    "audio-classification": _SPEECH_ENCODERS | {"audio-spectrogram-transformer"},
    "ctc": _SPEECH_ENCODERS,
    "zero-shot-image-classification": frozenset({"clip", "siglip"}),
}


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a format takes for each task: model types, or classes by the names configurations give.

    `classes` are for formats whose converter goes by the class.
    """

    model_types: Mapping[str, frozenset[str]] = field(default_factory=dict)
    classes: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def __or__(self, other: Coverage) -> Coverage:
        """Return what the one or the other takes."""
        return Coverage(
            _joined(self.model_types, other.model_types), _joined(self.classes, other.classes)
        )

    def takes(self, task: str, model_type: str, architecture: str) -> bool:
        """Whether a model of this type or class is taken for the task."""
        known = architecture in self.classes.get(task, frozenset())
        return known or model_type in self.model_types.get(task, frozenset())

    def tasks(self, model_type: str, architecture: str) -> list[str]:
        """Return the tasks that the model is taken for."""
        listed = dict.fromkeys((*self.model_types, *self.classes))
        return [task for task in listed if self.takes(task, model_type, architecture)]

    def known(self, task: str | None) -> list[str]:
        """Return every model type and class that is taken for the task, or for any."""
        tables = (self.model_types, self.classes)
        found = [
            table.get(task, frozenset()) if task else frozenset().union(*table.values())
            for table in tables
        ]
        return sorted(frozenset().union(*found))


GRAPHS = Coverage(MODEL_TYPES)
_Table = Mapping[str, frozenset[str]]


def _joined(one: _Table, other: _Table) -> _Table:
    nothing: frozenset[str] = frozenset()
    return {task: one.get(task, nothing) | other.get(task, nothing) for task in {**one, **other}}


def task_of(
    model_type: str,
    architecture: str,
    asked: str | None = None,
    *,
    embeds: bool = False,
    coverage: Coverage = GRAPHS,
) -> str:
    """Return the task that a model is compiled for; `asked` overrides what it would be.

    `embeds` says that the folder carries sentence-transformers' own files: such a model is for
    vectors whatever head its configuration names. Raises UnsupportedError for a model type or task
    that the format does not take, naming those that it does.
    """
    if asked is not None:
        task_spec(asked)
        if coverage.takes(asked, model_type, architecture):
            return asked
        raise _unsupported(architecture, model_type, asked, coverage)
    possible = coverage.tasks(model_type, architecture)
    if embeds and FEATURE_EXTRACTION in possible:
        return FEATURE_EXTRACTION
    named = [task for task in possible if _names(architecture, task)]
    if named:
        return named[0]
    if FEATURE_EXTRACTION in possible and not _has_head(architecture):
        return FEATURE_EXTRACTION
    raise _unsupported(architecture, model_type, None, coverage)


def _names(architecture: str, task: str) -> bool:
    return any(
        architecture.endswith(suffix) and _has_head(architecture) == _has_head(suffix)
        for suffix in TASKS[task].suffixes
    )


def _has_head(architecture: str) -> bool:
    return "For" in architecture


def _unsupported(
    architecture: str, model_type: str, asked: str | None, coverage: Coverage
) -> UnsupportedError:
    what = f"{architecture} (model type {model_type!r}) is not supported"
    tasks = coverage.tasks(model_type, architecture)
    if tasks:
        wanted = f" for {asked}" if asked else ""
        return UnsupportedError(
            what + wanted,
            why=f"this model type is compiled for: {', '.join(tasks)}",
            next=f"edgeward compile … --task {tasks[0]}",
        )
    where = f" for {asked}" if asked else ""
    known = ", ".join(coverage.known(asked))
    return UnsupportedError(what + where, why=f"supported model types: {known}")
