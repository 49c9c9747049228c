"""Which profile is this machine, and can it run what was compiled for one. Rules without I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .fingerprint import Fingerprint
from .profile import Engine, MatchRules, Profile
from .units import about
from .versions import satisfies

PRIORITY_WEIGHT = 100


@dataclass(frozen=True, slots=True)
class Match:
    """Whether a profile and a machine agree; where not, `reasons` say why, one each.

    Where they do, `reasons` say which rules held, and `score` grows with priority, then rules.
    """

    ok: bool
    score: int
    reasons: tuple[str, ...]


def match(profile: Profile, fingerprint: Fingerprint) -> Match:
    """Say whether a machine is the kind of device that a profile describes."""
    rules = profile.match
    wrong = _arch(rules, fingerprint) + _flags(rules, fingerprint) + _memory(rules, fingerprint)
    wrong += _board(rules, fingerprint) + _l4t(rules, fingerprint) + _gpu(rules, fingerprint)
    wrong += _gpu_name(rules, fingerprint)
    if wrong:
        return Match(ok=False, score=0, reasons=tuple(wrong))
    held = _given(rules)
    return Match(ok=True, score=rules.priority * PRIORITY_WEIGHT + len(held), reasons=held)


def compatible(
    profile: Profile, fingerprint: Fingerprint, *, needs_memory_bytes: int | None = None
) -> Match:
    """Say whether a machine, of whatever kind, can run a bundle compiled for a profile.

    Looks at the architecture, CPU flags, L4T release, compute capability, engine, Python and
    memory (the GPU's where the profile's is), not at the board's name. `needs_memory_bytes` is what
    the bundle is known to take; without it the machine must grant what the profile lets a bundle
    use. An engine that the machine has not installed is a reason against it.
    """
    rules = profile.match
    wrong = _arch(rules, fingerprint) + _flags(rules, fingerprint)
    wrong += _l4t(rules, fingerprint) + _gpu(rules, fingerprint)
    needs = profile.gate.max_memory_bytes if needs_memory_bytes is None else needs_memory_bytes
    has = _granted(profile, fingerprint)
    if has < needs:
        wrong.append(f"needs {about(needs)}, has {about(has)}")
    wrong += _engines(profile.engines, fingerprint)
    if wrong:
        return Match(ok=False, score=0, reasons=tuple(wrong))
    score = rules.priority * PRIORITY_WEIGHT + len(_given(rules))
    return Match(ok=True, score=score, reasons=_given(rules))


def ranked(profiles: Iterable[Profile], fingerprint: Fingerprint) -> list[tuple[Profile, Match]]:
    """Return the profiles that match, the best first; equal scores in the order of their names."""
    pairs = [(profile, match(profile, fingerprint)) for profile in profiles]
    return sorted(
        (pair for pair in pairs if pair[1].ok), key=lambda pair: (-pair[1].score, pair[0].name)
    )


def best(profiles: Iterable[Profile], fingerprint: Fingerprint) -> Profile | None:
    """Return the profile that describes a machine best, or None where none does."""
    found = ranked(profiles, fingerprint)
    return found[0][0] if found else None


def _granted(profile: Profile, fingerprint: Fingerprint) -> int:
    """The memory that a bundle of this profile would take; a GPU may not tell its own."""
    gpus = fingerprint.gpu_memory_bytes if profile.memory_is_the_gpus else None
    return fingerprint.memory_bytes if gpus is None else gpus


def _given(rules: MatchRules) -> tuple[str, ...]:
    held = [
        (True, f"arch is {rules.arch}"),
        (bool(rules.device_tree), f"the board is {' or '.join(rules.device_tree)}"),
        (bool(rules.gpu), f"the GPU is {' or '.join(rules.gpu)}"),
        (rules.l4t is not None, f"L4T is {rules.l4t}"),
        (rules.compute_capability is not None, f"the GPU is sm {rules.compute_capability}"),
        (bool(rules.cpu_flags), f"the CPU has {', '.join(rules.cpu_flags)}"),
        (rules.memory_min_bytes is not None, "memory is enough"),
        (rules.memory_max_bytes is not None, "memory is not more"),
    ]
    return tuple(text for is_given, text in held if is_given)


def _arch(rules: MatchRules, fingerprint: Fingerprint) -> list[str]:
    if fingerprint.arch == rules.arch:
        return []
    return [f"arch is {fingerprint.arch}, needs {rules.arch}"]


def _flags(rules: MatchRules, fingerprint: Fingerprint) -> list[str]:
    missing = [flag for flag in rules.cpu_flags if flag not in fingerprint.cpu_flags]
    return [f"the CPU lacks {', '.join(missing)}"] if missing else []


def _memory(rules: MatchRules, fingerprint: Fingerprint) -> list[str]:
    has, low, high = fingerprint.memory_bytes, rules.memory_min_bytes, rules.memory_max_bytes
    if low is not None and has < low:
        return [f"memory is {about(has)}, at least {about(low)} expected"]
    if high is not None and has > high:
        return [f"memory is {about(has)}, at most {about(high)} expected"]
    return []


def _board(rules: MatchRules, fingerprint: Fingerprint) -> list[str]:
    if not rules.device_tree:
        return []
    said = [fingerprint.device_tree_model or "", *fingerprint.device_tree_compatible]
    if any(wanted in word for wanted in rules.device_tree for word in said):
        return []
    board = fingerprint.device_tree_model or "without a device tree"
    return [f"the board is {board}, needs {' or '.join(rules.device_tree)}"]


def _l4t(rules: MatchRules, fingerprint: Fingerprint) -> list[str]:
    if rules.l4t is None or _is_in(fingerprint.l4t_release, rules.l4t):
        return []
    return [f"L4T is {fingerprint.l4t_release or 'absent'}, needs {rules.l4t}"]


def _gpu(rules: MatchRules, fingerprint: Fingerprint) -> list[str]:
    wanted, has = rules.compute_capability, fingerprint.compute_capability
    if wanted is None or wanted == has:
        return []
    return [f"the GPU's compute capability is {has or 'unknown'}, needs {wanted}"]


def _gpu_name(rules: MatchRules, fingerprint: Fingerprint) -> list[str]:
    name = fingerprint.gpu_name or ""
    if not rules.gpu or any(_is_word_of(wanted, name) for wanted in rules.gpu):
        return []
    return [f"the GPU is {name or 'unknown'}, needs {' or '.join(rules.gpu)}"]


def _is_word_of(wanted: str, name: str) -> bool:
    """An L40S is no L4, a GH200 no H200."""
    return re.search(rf"(?<![0-9A-Za-z]){re.escape(wanted)}(?![0-9A-Za-z])", name) is not None


def _engines(engines: Iterable[Engine], fingerprint: Fingerprint) -> list[str]:
    """One engine that fits is enough; where none does, each says why."""
    wrong = []
    for engine in engines:
        why = _engine(engine, fingerprint)
        if why is None:
            return []
        wrong.append(why)
    return wrong


def _engine(engine: Engine, fingerprint: Fingerprint) -> str | None:
    has = fingerprint.engines.get(engine.name)
    if has is None:
        return f"{engine.name} is not installed, needs {engine.version}"
    if not _is_in(has, engine.version):
        return f"{engine.name} is {has}, needs {engine.version}"
    python = fingerprint.python_version
    if engine.python is not None and not _is_in(python, engine.python):
        return f"Python is {python or 'unknown'}, {engine.name} needs {engine.python}"
    return None


def _is_in(version: str | None, constraint: str) -> bool:
    """A version that cannot be read satisfies nothing: a device may say anything."""
    try:
        return version is not None and satisfies(version, constraint)
    except ValueError:
        return False
