"""Which class serves which task, as strings; a task without one is used through `run()`."""

from __future__ import annotations

import importlib
from pathlib import Path

from edgeward.runtimes.engines.base import EngineSession

_HERE = "edgeward.runtimes.tasks"
TASKS = {
    "automatic-speech-recognition": f"{_HERE}.speech:Transcriber",
    "ctc": f"{_HERE}.ctc:CtcTranscriber",
    "depth-estimation": f"{_HERE}.picture_tasks:DepthEstimator",
    "feature-extraction": f"{_HERE}.embedding:Embedder",
    "fill-mask": f"{_HERE}.fill_mask:MaskFiller",
    "image-classification": f"{_HERE}.picture_tasks:PictureClassifier",
    "object-detection": f"{_HERE}.picture_tasks:Detector",
    "question-answering": f"{_HERE}.question_answering:Answerer",
    "semantic-segmentation": f"{_HERE}.picture_tasks:Segmenter",
    "text2text-generation": f"{_HERE}.text_to_text:TextToText",
    "text-classification": f"{_HERE}.classification:TextClassifier",
    "text-generation": f"{_HERE}.generation:Generator",
    "token-classification": f"{_HERE}.tagging:TextTagger",
}
WRITERS = frozenset({"automatic-speech-recognition", "text2text-generation", "text-generation"})


def open_task(task: str, folder: Path, engine: EngineSession) -> object | None:
    """Return what serves the task over an engine session, None where nothing does."""
    place = TASKS.get(task)
    if place is None:
        return None
    module, _, name = place.partition(":")
    opened: object = getattr(importlib.import_module(module), name)(folder, engine)
    return opened
