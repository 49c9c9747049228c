"""Which models can be compiled for which task, known from the configuration alone."""

from __future__ import annotations

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


def task_of(
    model_type: str, architecture: str, asked: str | None = None, *, embeds: bool = False
) -> str:
    """Return the task that a model is compiled for; `asked` overrides what it would be.

    `embeds` says that the folder carries sentence-transformers' own files: such a model is for
    vectors whatever head its configuration names. Raises UnsupportedError for a model type or task
    that is not supported, naming those that are.
    """
    if asked is not None:
        task_spec(asked)
        if model_type in MODEL_TYPES[asked]:
            return asked
        raise _unsupported(architecture, model_type, asked)
    possible = [task for task, model_types in MODEL_TYPES.items() if model_type in model_types]
    if embeds and FEATURE_EXTRACTION in possible:
        return FEATURE_EXTRACTION
    named = [task for task in possible if _names(architecture, task)]
    if named:
        return named[0]
    if FEATURE_EXTRACTION in possible and not _has_head(architecture):
        return FEATURE_EXTRACTION
    raise _unsupported(architecture, model_type, None)


def _names(architecture: str, task: str) -> bool:
    return any(
        architecture.endswith(suffix) and _has_head(architecture) == _has_head(suffix)
        for suffix in TASKS[task].suffixes
    )


def _has_head(architecture: str) -> bool:
    return "For" in architecture


def _unsupported(architecture: str, model_type: str, asked: str | None) -> UnsupportedError:
    what = f"{architecture} (model type {model_type!r}) is not supported"
    tasks = [task for task, model_types in MODEL_TYPES.items() if model_type in model_types]
    if tasks:
        wanted = f" for {asked}" if asked else ""
        return UnsupportedError(
            what + wanted,
            why=f"this model type is compiled for: {', '.join(tasks)}",
            next=f"edgeward compile … --task {tasks[0]}",
        )
    known = sorted(MODEL_TYPES[asked] if asked else set().union(*MODEL_TYPES.values()))
    where = f" for {asked}" if asked else ""
    return UnsupportedError(what + where, why="supported model types: " + ", ".join(known))
