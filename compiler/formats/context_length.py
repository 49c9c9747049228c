"""How many tokens the cache of a text generator holds, where a format fixes it."""

from __future__ import annotations

from edgeward.errors import UsageError
from edgeward.runtimes.tasks.generation import context_limit
from edgeward.runtimes.tasks.labels import read_config

from .base import Job

CONTEXT_LENGTH = "context-length"
# The proof's texts have as many tokens, where the model takes them.
_LEAST, _MOST = 512, 1 << 20


def context_length(job: Job, usual: int) -> int:
    """Return what `context-length` says, else `usual` or what the model takes.

    Raises UsageError for what is no number, for fewer tokens than the proof needs, and for more
    than the model has.
    """
    limit = _limit(job)
    given = job.options.get(CONTEXT_LENGTH)
    if not given:
        return min(usual, limit or usual)
    if len(given) > 1:
        raise UsageError(f"{CONTEXT_LENGTH} is given {len(given)} times", why="one is for all")
    (word,) = given
    if not word.isdecimal() or not word.isascii() or not 0 < int(word[:9]) <= _MOST:
        raise UsageError(f"{CONTEXT_LENGTH}={word[:20]} is no number of tokens")
    context, least = int(word), min(_LEAST, limit or _LEAST)
    if context < least or (limit is not None and context > limit):
        why = f"the proof needs {least}" + (f", the model takes {limit}" if limit else "")
        raise UsageError(f"{CONTEXT_LENGTH}={context} cannot be", why=why)
    return context


def _limit(job: Job) -> int | None:
    """Return how many tokens a text may have: what a decoder writes, where it has an encoder."""
    config = read_config(job.source.folder)
    written = config.get("max_target_positions")
    if type(written) is int and 0 < written <= _MOST:
        return written
    return context_limit(job.source.folder, config)
