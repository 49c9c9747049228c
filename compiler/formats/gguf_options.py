"""The options of GGUF's own that decide about types and importance, read before any work."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgeward.errors import UsageError

from .base import Job
from .gguf_types import KINDS, NEEDS_IMPORTANCE, TYPE_NUMBERS

TENSOR, OUTPUT, EMBEDDING = "tensor-type", "output-tensor-type", "token-embedding-type"
IMPORTANCE, SIZE, TYPES = "imatrix", "size", "types"
TYPE_OPTIONS = frozenset({TENSOR, OUTPUT, EMBEDDING, IMPORTANCE, SIZE, TYPES})
MADE, NONE = "auto", "none"
_MOST_OVERRIDES, _LONGEST_PATTERN = 512, 200
# std::regex backtracks by recursion: a group that repeats itself would end the process.
_SAFE = re.compile(r"[A-Za-z0-9_.,\-\\^$|\[\]()?*+{}]+")
_NESTED = re.compile(r"[*+}]\)?[*+{]|\([^)]*[*+{|][^)]*\)[*+{]")


@dataclass(frozen=True, slots=True)
class Choices:
    """Which tensor gets which type: `tensors` are patterns of names and types, in order.

    `output` and `embedding` are types, empty where the precision's own rule decides.
    """

    tensors: tuple[tuple[str, str], ...] = ()
    output: str = ""
    embedding: str = ""

    @property
    def needs_importance(self) -> bool:
        """Whether a type was chosen that llama.cpp makes with an importance matrix alone."""
        return any(kind in NEEDS_IMPORTANCE for _, kind in self.tensors)

    def __bool__(self) -> bool:
        """Whether anything departs from the precision's own rule."""
        return bool(self.tensors or self.output or self.embedding)


def choices(job: Job) -> Choices:
    """Read a job's options about types; UsageError where one cannot be followed."""
    chosen = Choices(
        tuple(_override(text) for text in job.options.get(TENSOR, ())),
        _single_type(job, OUTPUT),
        _single_type(job, EMBEDDING),
    )
    if len(chosen.tensors) > _MOST_OVERRIDES:
        raise UsageError(f"--{TENSOR} is given {len(chosen.tensors)} times", why="at most 512")
    if chosen and KINDS[job.recipe.precision].floats:
        raise UsageError(
            f"{job.recipe.precision} takes no types of single tensors",
            why="nothing of it is quantised",
            next="edgeward compile … --precision q8_0",
        )
    return chosen


def importance(job: Job) -> str | Path | None:
    """Return the file that holds the importance matrix, `auto` where one is made, None for none.

    Raises UsageError for a file that is not there, and where one is needed and was refused.
    """
    kind, asked = KINDS[job.recipe.precision], _single(job, IMPORTANCE)
    needed = kind.tensors in NEEDS_IMPORTANCE or choices(job).needs_importance
    if kind.floats and asked not in ("", NONE):
        raise UsageError(
            f"{job.recipe.precision} takes no importance matrix", why="nothing of it is quantised"
        )
    if asked == NONE and needed:
        raise UsageError(
            f"{job.recipe.precision} needs an importance matrix",
            why="without one weights of so few bits are noise, and llama.cpp refuses",
            next=f"edgeward compile … --{IMPORTANCE} {MADE}",
        )
    if asked not in ("", NONE, MADE):
        return _file(asked)
    wanted = asked == MADE or (asked == "" and (kind.weighed or needed or job.given is not None))
    return MADE if wanted and not kind.floats else None


def _file(asked: str) -> Path:
    path = Path(asked).expanduser()
    if not path.is_file():
        raise UsageError(
            f"There is no importance matrix at {asked}",
            why=f"--{IMPORTANCE} takes a file of llama.cpp's, {MADE} or {NONE}",
        )
    return path


def _override(text: str) -> tuple[str, str]:
    pattern, equals, kind = text.rpartition("=")
    if not equals or not pattern:
        raise UsageError(f"{text!r} is no tensor type", why="expected NAME=TYPE: attn_v=q6_k")
    return _pattern(pattern.lower()), _type(kind, TENSOR)


def _pattern(pattern: str) -> str:
    """As llama-quantize has it: a regular expression, searched for in the tensor's name."""
    problem = ""
    if len(pattern) > _LONGEST_PATTERN or not _SAFE.fullmatch(pattern):
        problem = "letters, digits and the signs of regular expressions, 200 at most"
    elif _NESTED.search(pattern):
        problem = "what repeats must not be repeated again"
    else:
        try:
            re.compile(pattern)
        except re.error as error:
            problem = str(error)
    if problem:
        raise UsageError(f"{pattern!r} cannot be a pattern of tensors' names", why=problem)
    return pattern


def _single_type(job: Job, name: str) -> str:
    text = _single(job, name)
    return _type(text, name) if text else ""


def _type(text: str, option: str) -> str:
    kind = text.strip().lower()
    if kind not in TYPE_NUMBERS:
        raise UsageError(
            f"--{option}: there is no tensor type {text!r}",
            why=f"known: {', '.join(sorted(TYPE_NUMBERS))}",
        )
    return kind


def _single(job: Job, name: str) -> str:
    given = job.options.get(name, ())
    if len(given) > 1:
        raise UsageError(f"--{name} is given more than once")
    return given[0] if given else ""
