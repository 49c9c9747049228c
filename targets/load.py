"""Find, read and resolve profiles: ours, the user's, and those of installed packages.

A profile's name is its file's name. Places, the first that has the name wins:
the directories of `EDGEWARD_TARGETS_PATH`, `$XDG_CONFIG_HOME/edgeward/targets`, our catalogue,
and packages of the entry-point group `edgeward.targets`. A profile that extends its own name
extends the next one along these places.

Inheritance: tables are merged, everything else (arrays too) is replaced whole.
"""

from __future__ import annotations

import importlib
import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

from edgeward.errors import ProfileError, UsageError

from .build import build
from .cite import check_sources
from .locate import Key, line_of
from .profile import Profile
from .schema import PROFILE, TARGET, Bad

CATALOG = Path(__file__).parent / "catalog"
ENTRY_POINTS = "edgeward.targets"
MAX_FILE_BYTES = 256 * 1024
MAX_PARENTS = 8

_parse: Callable[[str], dict[str, object]] = importlib.import_module(
    "tomllib" if sys.version_info >= (3, 11) else "tomli"
).loads


@dataclass(frozen=True, slots=True)
class Document:
    """One file: its text, and its checked content in the profile's units."""

    path: Path
    text: str
    content: Mapping[str, object]

    @property
    def is_abstract(self) -> bool:
        """Say whether the file is a family to extend, not a device."""
        return self.content.get("abstract") is True


def names() -> list[str]:
    """Return the names of every target that can be loaded, sorted; families are left out.

    A file that cannot be read keeps its name here, so that loading it says what is wrong.
    """
    found = {path.stem for directory in places() for path in _files(directory)}
    return sorted(name for name in found if not _is_family(name))


def user_place() -> Path:
    """Return the directory of the user's own profiles; UsageError for a user without a home."""
    own = _own_config()
    if not own:
        raise UsageError(
            "there is no place for your own targets", why="neither HOME nor XDG_CONFIG_HOME is set"
        )
    return own[0]


def load(name_or_path: str | Path) -> Profile:
    """Return a profile by name, or from a file where a path is given, inheritance resolved.

    Raises ProfileError naming file, line and key, and UsageError for a name that is not there.
    """
    path = _as_path(name_or_path)
    if path is None:
        path = _find(str(name_or_path))
    chain = _chain(path)
    if chain[-1].is_abstract:
        raise UsageError(
            f"{path.stem} is a family of devices, not a device",
            why=f"extended by: {', '.join(_children(path.stem)) or 'nothing yet'}",
            next="edgeward targets list",
        )
    return _resolve(chain)


def check_file(path: Path) -> Profile | None:
    """Check one file and what it extends; return its profile, or None where it is a family."""
    chain = _chain(path)
    return None if chain[-1].is_abstract else _resolve(chain)


def places() -> list[Path]:
    """Return the directories that hold profiles, the first to win first."""
    listed = os.environ.get("EDGEWARD_TARGETS_PATH", "").split(os.pathsep)
    given = [Path(each) for each in listed if each]
    return [*given, *_own_config(), CATALOG, *_installed(tuple(sys.path))]


def _own_config() -> list[Path]:
    """Return the user's directory; none for a user without a home, as in some containers."""
    config, home = os.environ.get("XDG_CONFIG_HOME"), os.environ.get("HOME")
    if config:
        return [Path(config) / "edgeward" / "targets"]
    return [Path(home) / ".config" / "edgeward" / "targets"] if home else []


@lru_cache(maxsize=8)
def _installed(_path: tuple[str, ...]) -> tuple[Path, ...]:
    """What packages on this path add; every profile asks, and looking takes longer than loading."""
    from importlib.metadata import entry_points
    from importlib.util import find_spec

    directories: list[Path] = []
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            spec = find_spec(entry.value)
        except (ImportError, ValueError):
            continue
        if spec is not None and spec.submodule_search_locations:
            directories += [Path(each) for each in spec.submodule_search_locations]
    return tuple(directories)


def _files(directory: Path) -> list[Path]:
    try:
        found = sorted(directory.glob("*.toml"))
    except OSError:
        return []
    return [path for path in found if TARGET.fullmatch(path.stem)]


def _candidates(name: str) -> Iterator[Path]:
    for directory in places():
        path = directory / f"{name}.toml"
        if path.exists():
            yield path


def _is_family(name: str) -> bool:
    try:
        return read_document(_find(name)).is_abstract
    except ProfileError:
        return False


def _children(family: str) -> list[str]:
    return [name for name in names() if _extends(name) == family]


def _extends(name: str) -> object:
    try:
        return read_document(_find(name)).content.get("extends")
    except ProfileError:
        return None


def _as_path(name_or_path: str | Path) -> Path | None:
    if isinstance(name_or_path, Path):
        return name_or_path
    is_path = os.sep in name_or_path or name_or_path.endswith(".toml")
    return Path(name_or_path) if is_path else None


def _find(name: str) -> Path:
    path = next(_candidates(name), None) if TARGET.fullmatch(name) else None
    if path is not None:
        return path
    known = names()
    close = get_close_matches(name[:100], known, n=3, cutoff=0.5)
    raise UsageError(
        f"there is no target {name[:100]!a}",
        why=f"closest: {', '.join(close)}" if close else f"known: {', '.join(known)}",
        next="edgeward targets list",
    )


def read_document(path: Path) -> Document:
    """Read and check one file by itself; ProfileError for whatever is wrong with it."""
    text = _text(path)
    try:
        content = _parse(text)
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{path}: not TOML", why=_first_line(error)) from error
    try:
        checked = PROFILE(content, ())
    except Bad as bad:
        raise _located(bad, path, text) from bad
    if not isinstance(checked, dict):
        raise ProfileError(f"{path}: not a table")
    return Document(path, text, checked)


def _text(path: Path) -> str:
    if not TARGET.fullmatch(path.stem):
        raise ProfileError(
            f"{path}: a profile is named after its file, and this is no name for one",
            why="a name has a-z, 0-9, hyphens and dots inside, at most 63",
        )
    try:
        # Opening a FIFO would wait for a writer, so look before opening.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ProfileError(f"{path}: not a file")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ProfileError(f"{path}: cannot be read", why=_first_line(error)) from error
    if len(data) > MAX_FILE_BYTES:
        raise ProfileError(f"{path}: larger than {MAX_FILE_BYTES // 1024} KiB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProfileError(f"{path}: not UTF-8", why=_first_line(error)) from error


def _chain(path: Path) -> list[Document]:
    """Return the documents from the root of the inheritance to the file itself."""
    chain = [read_document(path)]
    seen = [path.resolve()]
    while (parent := chain[0].content.get("extends")) is not None:
        child = chain[0]
        others = [each for each in _candidates(str(parent)) if each.resolve() not in seen]
        if not others:
            cycle = any(each.stem == parent for each in seen)
            why = "comes back to itself" if cycle else "names a profile that is not there"
            raise _located(Bad(("extends",), f"{why}: {parent}"), child.path, child.text)
        if len(chain) > MAX_PARENTS:
            bad = Bad(("extends",), f"goes more than {MAX_PARENTS} levels up")
            raise _located(bad, child.path, child.text)
        seen.append(others[0].resolve())
        chain.insert(0, read_document(others[0]))
    return chain


def _resolve(chain: list[Document]) -> Profile:
    merged: dict[str, object] = {}
    for document in chain:
        merged = _merged(merged, document.content)
    try:
        check_sources([document.content for document in chain])
        return build(chain[-1].path.stem, merged)
    except Bad as bad:
        holder = _holder(chain, bad.key)
        raise _located(bad, holder.path, holder.text) from bad


def _merged(below: Mapping[str, object], above: Mapping[str, object]) -> dict[str, object]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = _merged(old, value)
        else:
            merged[key] = value
    return merged


def _holder(chain: list[Document], key: Key) -> Document:
    """Return the last document that gives the key; the file itself where none does."""
    for document in reversed(chain):
        if _holds(document.content, key):
            return document
    return chain[-1]


def _holds(content: object, key: Key) -> bool:
    for part in key:
        if isinstance(content, list) and part.isdigit() and int(part) < len(content):
            content = content[int(part)]
        elif isinstance(content, dict) and part in content:
            content = content[part]
        else:
            return False
    return True


def _located(bad: Bad, path: Path, text: str) -> ProfileError:
    key = ".".join(part if part.isprintable() else ascii(part) for part in bad.key)
    return ProfileError(
        f"{path}:{line_of(text, bad.key)}: {key[:200]} {bad.why}",
        next=f"edgeward targets validate {path}",
    )


def _first_line(error: BaseException) -> str:
    return ascii(str(error).splitlines()[0][:200])[1:-1] if str(error) else type(error).__name__
