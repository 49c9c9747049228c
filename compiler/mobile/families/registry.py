"""Which file wraps a model: by its type where it needs one of its own, else by its modality."""

from __future__ import annotations

from edgeward.compiler.tasks import TaskSpec
from edgeward.errors import UnsupportedError

_HERE = "edgeward.compiler.mobile.families"
MODALITIES = {
    "text": f"{_HERE}.text",
    "text-pair": f"{_HERE}.text",
    "image": f"{_HERE}.plain",
    "audio": f"{_HERE}.plain",
    "image-text": f"{_HERE}.image_text",
}
FAMILIES: dict[str, str] = {
    "deberta": f"{_HERE}.deberta",
    "deberta-v2": f"{_HERE}.deberta",
    "modernbert": f"{_HERE}.modernbert",
}


def family_of(spec: TaskSpec, model_type: str) -> str:
    """Return the module's name; UnsupportedError where no family takes the model."""
    found = FAMILIES.get(model_type) or MODALITIES.get(spec.modality)
    if found is None:
        raise UnsupportedError(f"{model_type} for {spec.name} has no form for mobile engines yet")
    return found
