"""How each task is proved, as strings: a module that reads cases and measures a session."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from edgeward.runtimes.engines.base import Tensor
from edgeward.runtimes.session import EMBEDDING_TASK, Session

PROOFS = {
    EMBEDDING_TASK: "edgeward.runtimes.proof.vectors",
    "automatic-speech-recognition": "edgeward.runtimes.proof.sequences",
    "text-generation": "edgeward.runtimes.proof.generation",
    "text2text-generation": "edgeward.runtimes.proof.sequences",
}
_OTHERWISE = "edgeward.runtimes.proof.tensors"


class Proof(Protocol):
    """A task's proof; what `read_cases` gives is what the others take."""

    def read_cases(self, folder: Path) -> Any:
        """Read a bundle's golden inputs; IntegrityError where they are damaged."""

    def metrics(self, session: Session, cases: Any) -> dict[str, float]:
        """Run every case and compare it with the original's outputs."""

    def request(self, session: Session, cases: Any) -> Callable[[], object]:
        """Return one typical request, to be timed."""

    def sample(self, folder: Path) -> Mapping[str, Tensor]:
        """Return the graph's inputs of one golden case of middle size, batch first."""

    def count(self, cases: Any) -> int:
        """How many cases there are."""


def proof_for(task: str) -> Proof:
    """Return the proof of a task; those without one of their own compare tensors."""
    return cast(Proof, importlib.import_module(PROOFS.get(task, _OTHERWISE)))
