"""Which function makes which metric, as strings, by what the cases are of."""

from __future__ import annotations

import importlib

from edgeward.errors import UsageError
from edgeward.targets.evaluation.cases import (
    BOXES,
    LABEL,
    NATS,
    NUMBER,
    PLACES,
    REGIONS,
    SPANS,
    TEXT,
)

from .base import Metric

_HERE = "edgeward.targets.evaluation.metrics"
METRICS: dict[str, dict[str, str]] = {
    LABEL: {
        "accuracy": f"{_HERE}.classes:accuracy",
        "precision": f"{_HERE}.classes:precision",
        "recall": f"{_HERE}.classes:recall",
        "f1": f"{_HERE}.classes:f1",
        "confusion": f"{_HERE}.classes:confusion",
    },
    NUMBER: {
        "mae": f"{_HERE}.numbers:mae",
        "r2": f"{_HERE}.numbers:r2",
        "spearman": f"{_HERE}.numbers:spearman",
    },
    TEXT: {
        "exact-match": f"{_HERE}.exact:exact_match",
        "token-f1": f"{_HERE}.exact:token_f1",
        "bleu": f"{_HERE}.overlap:bleu",
        "rouge": f"{_HERE}.overlap:rouge",
        "meteor": f"{_HERE}.overlap:meteor",
        "wer": f"{_HERE}.edits:wer",
        "cer": f"{_HERE}.edits:cer",
    },
    SPANS: {
        "precision": f"{_HERE}.spans:precision",
        "recall": f"{_HERE}.spans:recall",
        "f1": f"{_HERE}.spans:f1",
    },
    PLACES: {"recall": f"{_HERE}.places:recall", "mrr": f"{_HERE}.places:mrr"},
    BOXES: {"map": f"{_HERE}.boxes:mean_average_precision"},
    REGIONS: {
        "iou": f"{_HERE}.regions:iou",
        "pixel-accuracy": f"{_HERE}.regions:pixel_accuracy",
    },
    NATS: {"perplexity": f"{_HERE}.nats:perplexity"},
}
VARIANTS = (
    *("f1-macro", "f1-micro", "f1-weighted", "rouge-1", "rouge-2", "rouge-l", "rouge-lsum"),
    *("wer-exact", "cer-exact", "exact-match-strict", "recall@5"),
    *("map-50", "map-75"),
)


def make_metric(name: str, kind: str) -> Metric:
    """Return a metric by its name, such as `f1-micro` or `recall@5`, for cases of a kind.

    Raises UsageError where cases of that kind have no such metric, ModuleNotFoundError where its
    library is not installed.
    """
    known = METRICS[kind]
    base, variant = _parted(name, known)
    if base not in known:
        raise UsageError(
            f"There is no metric {name!r} for this data",
            why=f"known for it: {', '.join(known)}" if known else "",
            next="edgeward eval --help",
        )
    module, _, function = known[base].partition(":")
    made = getattr(importlib.import_module(module), function)(variant)
    if made is None:
        raise UsageError(f"There is no metric {name!r}", why=f"{base} has no variant {variant!r}")
    if not isinstance(made, Metric):
        raise TypeError(f"{known[base]} made no metric")
    return made


def _parted(name: str, known: dict[str, str]) -> tuple[str, str]:
    """The longest known name before a `-` or `@`, and what stands behind it."""
    for at in range(len(name), 0, -1):
        if name[:at] in known and (at == len(name) or name[at] in "-@"):
            return name[:at], name[at + 1 :]
    return name, ""
