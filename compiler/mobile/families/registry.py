"""Which file wraps a model: by its type where it needs one of its own, else by its modality."""

from __future__ import annotations

from edgeward.compiler.tasks import TaskSpec
from edgeward.errors import UnsupportedError

_HERE = "edgeward.compiler.mobile.families"
MODALITIES = {
    "text": f"{_HERE}.text",
    "text-pair": f"{_HERE}.text",
}
FAMILIES: dict[str, str] = {}


def family_of(spec: TaskSpec, model_type: str) -> str:
    """Return the module's name; UnsupportedError where no family takes the model."""
    found = FAMILIES.get(model_type) or MODALITIES.get(spec.modality)
    if found is None:
        raise UnsupportedError(f"{model_type} for {spec.name} has no form for mobile engines yet")
    return found
