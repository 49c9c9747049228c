"""The texts that a proof runs on: hard golden inputs and an evaluation set."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from edgeward.errors import UsageError

LEAST_TEXTS = 3
MAX_TEXTS = 4096
MAX_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class ProofTexts:
    """Golden cases by name, evaluation texts, and the digest of the latter."""

    golden: dict[str, str]
    evaluation: tuple[str, ...]

    @property
    def evaluation_sha256(self) -> str:
        """The digest of the evaluation set."""
        return hashlib.sha256("\n".join(self.evaluation).encode()).hexdigest()


def proof_texts(evaluation_file: Path | None = None) -> ProofTexts:
    """Return the packaged golden cases, and the evaluation set of `evaluation_file` or ours.

    The file holds one text a line, or JSON lines with a `text` field. Raises UsageError where it
    cannot be read or holds nothing.
    """
    data = files("edgeward.compiler") / "data"
    golden = json.loads((data / "golden_texts.json").read_text(encoding="utf-8"))
    if evaluation_file is None:
        lines = (data / "sentences.txt").read_text(encoding="utf-8").splitlines()
        return ProofTexts(golden, tuple(line for line in lines if line.strip()))
    return ProofTexts(golden, _read(evaluation_file))


def calibration_texts(file: Path | None = None) -> tuple[str, ...]:
    """Return the texts of `file`, as `proof_texts` reads them, or the packaged ones."""
    if file is not None:
        return _read(file)
    packaged = files("edgeward.compiler") / "data" / "calibration.txt"
    return tuple(line for line in packaged.read_text(encoding="utf-8").splitlines() if line)


def _read(path: Path) -> tuple[str, ...]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path} is larger than {MAX_BYTES >> 20} MiB")
        lines = path.read_text(encoding="utf-8-sig").split("\n")
        texts = [_text(line) for line in lines if line.strip()]
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read as texts", why=str(error)[:300]) from None
    kept = tuple(texts[:MAX_TEXTS])
    if len(set(kept)) < LEAST_TEXTS:
        raise UsageError(
            f"{path} holds {len(set(kept))} different texts",
            why=f"a proof needs at least {LEAST_TEXTS}",
        )
    return kept


def _text(line: str) -> str:
    if not line.startswith("{"):
        return line
    text = json.loads(line).get("text")
    if not isinstance(text, str):
        raise ValueError('a JSON line without a "text"')
    text.encode()
    return text
