"""Which file evaluates which task, as strings; a task without one cannot be evaluated."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from edgeward.errors import UnsupportedError
from edgeward.runtimes.bundle.read import Bundle
from edgeward.targets.evaluation.cases import Settings, Work
from edgeward.targets.evaluation.table import Table

_HERE = "edgeward.targets.evaluation.tasks"
TASKS = {
    "automatic-speech-recognition": f"{_HERE}.speech:work",
    "ctc": f"{_HERE}.speech:work",
    "feature-extraction": f"{_HERE}.vectors:work",
    "fill-mask": f"{_HERE}.gaps:work",
    "image-classification": f"{_HERE}.pictures:work",
    "object-detection": f"{_HERE}.boxes:work",
    "question-answering": f"{_HERE}.answers:work",
    "semantic-segmentation": f"{_HERE}.regions:work",
    "text-classification": f"{_HERE}.texts:work",
    "text-generation": f"{_HERE}.writing:work",
    "text2text-generation": f"{_HERE}.writing:work",
    "token-classification": f"{_HERE}.entities:work",
}
Reader = Callable[[Path, Table, Settings], Work]


def open_work(bundle: Bundle, table: Table, settings: Settings) -> Work:
    """Return the cases of a table for a bundle's task, every row checked and nothing run.

    Raises UsageError where rows are wrong, UnsupportedError where the task has no evaluation.
    """
    task = bundle.manifest.task
    if task not in TASKS:
        raise UnsupportedError(
            f"A bundle for {task} cannot be evaluated",
            why=f"known: {', '.join(TASKS)}",
            next=f"edgeward verify {bundle.path}",
        )
    module, _, name = TASKS[task].partition(":")
    reader: Reader = getattr(importlib.import_module(module), name)
    return reader(bundle.path, table, settings)
