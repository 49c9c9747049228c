"""Which models can be compiled, known from the configuration alone."""

from __future__ import annotations

from edgeward.errors import UnsupportedError

FEATURE_EXTRACTION = "feature-extraction"

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
TASKS = {FEATURE_EXTRACTION: TEXT_ENCODERS}


def task_of(model_type: str, architecture: str, asked: str | None = None) -> str:
    """Return the task that a model is compiled for; `asked` overrides what it would be.

    Raises UnsupportedError for a model type or task that is not supported, naming those that are.
    """
    if asked is not None and asked not in TASKS:
        raise UnsupportedError(
            f"The task {asked!r} is not supported", why="supported: " + ", ".join(sorted(TASKS))
        )
    for task, model_types in TASKS.items():
        if model_type in model_types and asked in (None, task):
            return task
    raise UnsupportedError(
        f"{architecture} (model type {model_type!r}) is not supported",
        why="supported model types: " + ", ".join(sorted(TEXT_ENCODERS)),
    )
