"""Version constraints: the part of PEP 440 that engine pins need, with no dependency.

Versions are release numbers with an optional pre, post, dev and local part (`1.23.2`, `1.24.0rc1`,
`1.20.0.post1`, `1.18.0+cu126`). Constraints are comma-separated clauses of `== != >= <= > < ~=`;
`==` and `!=` also take `1.23.*`. A local part of the version is ignored, as PEP 440 asks of a
constraint without one. Unlike pip, a pre-release is judged like any other version: what is
installed on a device is a fact, not a choice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_LENGTH = 100
_VERSION = re.compile(
    r"v?(?P<release>[0-9]{1,9}(?:\.[0-9]{1,9}){0,7})"
    r"(?:[._-]?(?P<pre>a|b|rc)[._-]?(?P<pre_number>[0-9]{0,9}))?"
    r"(?P<post>[._-]?post[._-]?(?P<post_number>[0-9]{0,9}))?"
    r"(?P<dev>[._-]?dev[._-]?(?P<dev_number>[0-9]{0,9}))?"
    r"(?:\+[a-z0-9]+(?:[._-][a-z0-9]+)*)?",
    re.ASCII,
)
_CLAUSE = re.compile(r"(==|!=|>=|<=|~=|>|<)\s*(\S+)")
_FIRST, _LAST = -1, 10**10
_PRE = {"a": 0, "b": 1, "rc": 2}

_Key = tuple[tuple[int, ...], tuple[int, int], int, int]


@dataclass(frozen=True, slots=True)
class Version:
    """A parsed version; compare by `key`, which orders as PEP 440 does without local parts."""

    release: tuple[int, ...]
    pre: tuple[int, int] | None
    post: int | None
    dev: int | None

    @property
    def key(self) -> _Key:
        """Return a tuple that sorts as the versions do."""
        release = self.release
        while len(release) > 1 and release[-1] == 0:
            release = release[:-1]
        pre = self.pre or (_LAST, 0)
        if self.pre is None and self.post is None and self.dev is not None:
            pre = (_FIRST, 0)
        post = _FIRST if self.post is None else self.post
        dev = _LAST if self.dev is None else self.dev
        return release, pre, post, dev


def parse_version(text: str) -> Version:
    """Return the version that `text` names; ValueError where it is none."""
    found = _VERSION.fullmatch(text.strip().lower()) if len(text) <= MAX_LENGTH else None
    if found is None:
        raise ValueError(f"{text[:MAX_LENGTH]!r} is not a version")
    return Version(
        release=tuple(int(part) for part in found["release"].split(".")),
        pre=(_PRE[found["pre"]], int(found["pre_number"] or 0)) if found["pre"] else None,
        post=int(found["post_number"] or 0) if found["post"] else None,
        dev=int(found["dev_number"] or 0) if found["dev"] else None,
    )


def check_constraint(text: str) -> None:
    """Raise ValueError, saying which clause is wrong, where `text` is no constraint."""
    _clauses(text)


def satisfies(version: str, constraint: str) -> bool:
    """Say whether a version is inside a constraint; ValueError where either cannot be read."""
    candidate = parse_version(version)
    return all(_holds(candidate, operator, bound) for operator, bound in _clauses(constraint))


def _clauses(text: str) -> list[tuple[str, str]]:
    if len(text) > MAX_LENGTH:
        raise ValueError(f"is longer than {MAX_LENGTH} characters")
    clauses = []
    for part in text.split(","):
        found = _CLAUSE.fullmatch(part.strip())
        if found is None:
            raise ValueError(f'clause {part.strip()!r} is not like "==1.23.2" or ">=1.23,<2"')
        operator, bound = found[1], found[2]
        _check_bound(operator, bound)
        clauses.append((operator, bound))
    return clauses


def _check_bound(operator: str, bound: str) -> None:
    starred = bound.endswith(".*")
    if starred and operator not in ("==", "!="):
        raise ValueError(f"{operator} takes no wildcard")
    version = parse_version(bound.removesuffix(".*"))
    if starred and (version.pre or version.post is not None or version.dev is not None):
        raise ValueError(f"a wildcard stands after plain numbers only, not in {bound!r}")
    if operator == "~=" and len(version.release) < 2:
        raise ValueError('~= needs at least two numbers: "~=1.23"')
    if "+" in bound:
        raise ValueError(f"a constraint has no local part (+…), as in {bound!r}")


def _holds(version: Version, operator: str, text: str) -> bool:
    bound = parse_version(text.removesuffix(".*"))
    if operator in ("==", "!="):
        same = _starts(version, bound.release) if text.endswith(".*") else version.key == bound.key
        return same == (operator == "==")
    if operator == "~=":
        return version.key >= bound.key and _starts(version, bound.release[:-1])
    if operator == ">=":
        return version.key >= bound.key
    if operator == "<=":
        return version.key <= bound.key
    if operator == ">":
        return version.key > bound.key and not _is_post_of(version, bound)
    return version.key < bound.key and not _is_pre_of(version, bound)


def _starts(version: Version, prefix: tuple[int, ...]) -> bool:
    padded = version.release + (0,) * len(prefix)
    return padded[: len(prefix)] == prefix


def _is_post_of(version: Version, bound: Version) -> bool:
    """PEP 440: `>1.7` leaves out 1.7.post1 unless the bound is itself a post-release."""
    if version.post is None or bound.post is not None or bound.dev is not None:
        return False
    return version.pre == bound.pre and _same_release(version, bound)


def _is_pre_of(version: Version, bound: Version) -> bool:
    """PEP 440: `<1.7` leaves out 1.7rc1 unless the bound is itself a pre-release."""
    if bound.pre is not None or bound.dev is not None or not _same_release(version, bound):
        return False
    if bound.post is None:
        return version.pre is not None or version.dev is not None
    return version.pre is None and version.post == bound.post and version.dev is not None


def _same_release(one: Version, other: Version) -> bool:
    length = max(len(one.release), len(other.release))
    return _starts(one, (other.release + (0,) * length)[:length])
