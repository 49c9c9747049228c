"""The texts that a proof runs on: hard golden inputs and an evaluation set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from edgeward.errors import UsageError

from .given_data import GivenData, Line

LEAST_TEXTS = 3
MAX_TEXTS = 4096
MAX_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class ProofTexts:
    """Golden cases by name, evaluation texts, and the evaluation set as it was given, if it was."""

    golden: dict[str, str]
    evaluation: tuple[str, ...]
    given: GivenData | None = None

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The evaluation texts where two of them belong together."""
        return () if self.given is None else paired(self.given.texts)

    @property
    def evaluation_sha256(self) -> str:
        """The digest of the evaluation set."""
        if self.given is not None:
            return self.given.sha256
        return hashlib.sha256("\n".join(self.evaluation).encode()).hexdigest()


def proof_texts(given: GivenData | None = None) -> ProofTexts:
    """Return the packaged golden cases, and the evaluation set that was given or ours."""
    data = files("edgeward.compiler") / "data"
    golden = json.loads((data / "golden_texts.json").read_text(encoding="utf-8"))
    if given is not None and given.texts:
        return ProofTexts(golden, joined(given.texts), given)
    lines = (data / "sentences.txt").read_text(encoding="utf-8").splitlines()
    return ProofTexts(golden, tuple(line for line in lines if line.strip()), given)


def packaged_calibration() -> tuple[str, ...]:
    """Return the packaged calibration texts."""
    packaged = files("edgeward.compiler") / "data" / "calibration.txt"
    return tuple(line for line in packaged.read_text(encoding="utf-8").splitlines() if line)


def joined(lines: Sequence[Line]) -> tuple[str, ...]:
    """Return each line as one text, pairs joined."""
    return tuple(line if isinstance(line, str) else " ".join(line) for line in lines)


def paired(lines: Sequence[Line]) -> tuple[tuple[str, str], ...]:
    """Return the pairs, none where a line is a single text."""
    pairs = tuple(line for line in lines if not isinstance(line, str))
    return pairs if len(pairs) == len(lines) else ()


def read_texts(path: Path, *, pairs: bool = False) -> tuple[Line, ...]:
    """Read a text a line, or JSON lines with `text` and, where `pairs` may be, `text_pair`.

    Raises UsageError where the file cannot be read, holds too few different texts, or pairs beside
    single texts.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path} is larger than {MAX_BYTES >> 20} MiB")
        lines = path.read_text(encoding="utf-8-sig").split("\n")
        texts = [_line(line, pairs) for line in lines if line.strip()]
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read as texts", why=str(error)[:300]) from None
    kept = tuple(texts[:MAX_TEXTS])
    if len(set(kept)) < LEAST_TEXTS:
        raise UsageError(
            f"{path} holds {len(set(kept))} different texts",
            why=f"a proof needs at least {LEAST_TEXTS}",
        )
    if len({type(line) for line in kept}) > 1:
        raise UsageError(f"{path} holds pairs of texts beside single ones")
    return kept


def _line(line: str, pairs: bool) -> Line:
    if not line.startswith("{"):
        return line
    stated = json.loads(line)
    text, other = stated.get("text"), stated.get("text_pair")
    if not isinstance(text, str):
        raise ValueError('a JSON line without a "text"')
    text.encode()
    if other is None:
        return text
    if not isinstance(other, str) or not pairs:
        raise ValueError("a text_pair is a text" if pairs else "the task takes no text_pair")
    other.encode()
    return (text, other)
