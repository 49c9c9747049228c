"""The options of TFLite's own, read before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeward.compiler.tasks import task_spec
from edgeward.errors import UnsupportedError, UsageError

from .base import Job
from .context_length import CONTEXT_LENGTH, context_length

ROTATION, PREFILL, LITERTLM, MEDIAPIPE = "rotation", "prefill", "litertlm", "mediapipe"
OPTIONS = frozenset({ROTATION, CONTEXT_LENGTH, PREFILL, LITERTLM, MEDIAPIPE})
MEDIAPIPE_FILE = "mediapipe.tflite"
# The class of MediaPipe Tasks that opens such a file.
MEDIAPIPE_TASKS: Mapping[str, str] = {
    "image-classification": "ImageClassifier",
    "object-detection": "ObjectDetector",
    "semantic-segmentation": "ImageSegmenter",
    "text-classification": "TextClassifier",
    "feature-extraction": "TextEmbedder",
    "audio-classification": "AudioClassifier",
}
_YES, _NO = ("yes", "true", "1"), ("no", "false", "0")
HADAMARD, NONE = "hadamard", "none"
_ROTATED, _INTEGERS = "int8-dynamic", "int8-static"
_CONTEXT, _PREFILL = 1024, (128,)
# Behind a sound there are but a few tokens that say what is to be written.
_HEARD = (32,)
_MOST_SIGNATURES = 8
_WRITES = "text-generation"


@dataclass(frozen=True, slots=True)
class Slots:
    """How a text generator is made: tokens that its cache holds, and that a call may take."""

    context: int
    calls: tuple[int, ...]

    @property
    def signatures(self) -> dict[str, int]:
        """Tokens by the signature's name, the largest first; `decode` takes one."""
        return {**{f"prefill_{size}": size for size in self.calls}, "decode": 1}


def slots_of(job: Job) -> Slots | None:
    """Return the slots of a text generator, None for another model.

    Raises UsageError for numbers that are none, or that the model does not have.
    """
    asked = [name for name in (CONTEXT_LENGTH, PREFILL) if job.options.get(name)]
    if not task_spec(job.source.task).generates:
        if asked:
            raise UsageError(f"{asked[0]} is for models that write", why=f"{job.source.task} none")
        return None
    context = context_length(job, _CONTEXT)
    usual = _HEARD if task_spec(job.source.task).modality == "speech" else _PREFILL
    calls = _numbers(job, PREFILL, most=_MOST_SIGNATURES) or usual
    sizes = sorted({min(size, context) for size in calls if size > 1}, reverse=True)
    return Slots(context, tuple(sizes))


def _numbers(job: Job, name: str, most: int) -> tuple[int, ...]:
    given = job.options.get(name, ())
    for word in given:
        if not word.isdecimal() or not word.isascii() or not 0 < int(word[:9]) <= 1 << 20:
            raise UsageError(f"{name}={word[:20]} is no number of tokens")
    if len(given) > most:
        raise UsageError(f"{name} is given {len(given)} times", why=f"{most} at most")
    return tuple(map(int, given))


def contained(job: Job) -> bool:
    """Whether a text generator is also to be one file for LiteRT-LM; UsageError for another."""
    asked = _is_asked(job, LITERTLM)
    if asked and job.source.task != _WRITES:
        raise UsageError(f"{LITERTLM} is for text generators", why=f"not {job.source.task}")
    return asked


def for_mediapipe(job: Job) -> bool:
    """Whether there is to be a file for MediaPipe Tasks beside the model.

    Raises UsageError for another word than yes or no, UnsupportedError where no task opens it.
    """
    if not _is_asked(job, MEDIAPIPE):
        return False
    if job.source.task not in MEDIAPIPE_TASKS:
        known = ", ".join(sorted(MEDIAPIPE_TASKS))
        raise UnsupportedError(
            f"MediaPipe Tasks have no class for {job.source.task}", why=f"they have for {known}"
        )
    if job.recipe.precision == _INTEGERS:
        raise UnsupportedError(
            f"MediaPipe Tasks open no file of {_INTEGERS}",
            why="its inputs and outputs are int8, they take float32 and uint8",
            next="edgeward compile … --precision int8-weights --option mediapipe=yes",
        )
    return True


def _is_asked(job: Job, name: str) -> bool:
    given = job.options.get(name)
    if not given:
        return False
    word = given[-1].lower()
    if len(given) > 1 or word not in (*_YES, *_NO):
        raise UsageError(f"{name}={given[-1][:20]} is not known", why="it is yes or no")
    return word in _YES


def rotation_of(job: Job) -> dict[str, str | int | float | bool]:
    """Return what `rotation=hadamard` asks for; UsageError where it is for another precision.

    Activations are turned before they are rounded, which spreads their outliers: nearer to the
    original, and slower where floats are (`benchmarks/mobile/tflite.py`).
    """
    given = job.options.get(ROTATION)
    if not given:
        return {}
    if len(given) > 1 or given[0] not in (HADAMARD, NONE):
        raise UsageError(
            f"{ROTATION}={given[-1][:20]} is not known", why=f"there are {HADAMARD} and {NONE}"
        )
    if job.recipe.precision != _ROTATED:
        why = f"{_ROTATED} alone rounds activations as they come"
        raise UsageError(f"{job.recipe.precision} has no {ROTATION}", why=why)
    return {ROTATION: given[0]}
