"""What a user gives to calibrate with and to prove on: texts, pictures or sounds, by their content.

Everything here is from outside: links that lead out, files that are none, sizes and headers that
lie are refused before any work begins.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeward.errors import UsageError
from edgeward.runtimes.tasks.labels import MOST_LABELS
from edgeward.runtimes.tasks.sound import read_wav

from .given_data import PICTURES, SOUNDS, TEXTS, GivenData, GivenFile
from .tasks import TaskSpec
from .texts import MAX_BYTES, read_texts

MAX_FILES = 512
MAX_FILE_BYTES = 64 << 20
MAX_TOTAL_BYTES = 512 << 20
MAX_SECONDS = 60
_MAX_LISTED = 100_000
_KINDS = {"image": PICTURES, "image-text": PICTURES, "audio": SOUNDS, "speech": SOUNDS}
_SUFFIXES = {
    PICTURES: (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    SOUNDS: (".wav",),
}
_FIELDS = {PICTURES: "image", SOUNDS: "audio"}
_WANTED = {
    TEXTS: "a text a line, or JSON lines with a text field",
    PICTURES: "a picture, a folder of pictures, or JSON lines with an image field",
    SOUNDS: "a WAV file, a folder of WAV files, or JSON lines with an audio field",
}
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")


def wanted_kind(spec: TaskSpec) -> str:
    """Return what a task is calibrated with and proved on: texts, pictures or sounds."""
    return _KINDS.get(spec.modality, TEXTS)


def read_given(path: Path, spec: TaskSpec) -> GivenData:
    """Read what was given for a task; UsageError where it is not what the task wants."""
    kind = wanted_kind(spec)
    if kind == TEXTS:
        _require_texts(path, spec)
        return GivenData(TEXTS, texts=read_texts(path, pairs=spec.reads_pairs))
    files = tuple(_files(path, kind, spec))
    if not files:
        raise _unwanted(path, kind, spec, f"it holds no {kind}")
    return GivenData(kind, files=files)


def check_labels(given: GivenData | None, spec: TaskSpec, labels: tuple[str, ...]) -> None:
    """Refuse labels that the model does not know, before any work; UsageError names one."""
    if given is None or not labels or spec.name not in LABELLED:
        return
    for one in given.files:
        if one.label and class_of(one.label, labels) is None:
            raise UsageError(
                f"The model has no class {one.label[:100]!r}",
                why=f"{len(labels)} classes, {', '.join(labels[:5])[:200]}, …",
            )


LABELLED = ("image-classification", "audio-classification")


def class_of(label: str, labels: tuple[str, ...]) -> int | None:
    """Return the number of a class by its name or by its number, None where there is none.

    A model that names no classes takes any number.
    """
    if label in labels:
        return labels.index(label)
    number = int(label) if label.isascii() and label.isdecimal() and len(label) < 8 else -1
    return number if 0 <= number < (len(labels) or MOST_LABELS) else None


def _require_texts(path: Path, spec: TaskSpec) -> None:
    known = [suffix for suffixes in _SUFFIXES.values() for suffix in suffixes]
    if path.is_dir() or path.suffix.lower() in known:
        raise _unwanted(path, TEXTS, spec, f"{path} is no file of texts")


def _files(path: Path, kind: str, spec: TaskSpec) -> Iterator[GivenFile]:
    root = path if path.is_dir() else path.parent
    total = 0
    for told in _told(path, kind, spec)[:MAX_FILES]:
        one = _given_file(root, told, kind)
        total += one.path.stat().st_size
        if total > MAX_TOTAL_BYTES:
            raise UsageError(f"{path} holds more than {MAX_TOTAL_BYTES >> 20} MiB of {kind}")
        yield one


def _told(path: Path, kind: str, spec: TaskSpec) -> list[dict[str, str]]:
    """Return file, label and words of each sample, in order."""
    try:
        if path.is_dir():
            return [{"file": name} for name in _listed(path, kind)]
        if path.suffix.lower() in _SUFFIXES[kind]:
            return [{"file": path.name}]
        if path.suffix.lower() not in (".jsonl", ".json"):
            raise _unwanted(path, kind, spec, f"{path.name} is something else")
        return _lines(path, kind)
    except (OSError, ValueError, RecursionError) as error:
        raise _unwanted(path, kind, spec, f"{path}: {error}"[:300]) from None


def _listed(folder: Path, kind: str) -> list[str]:
    found = []
    with os.scandir(folder) as entries:
        for number, entry in enumerate(entries):
            if number >= _MAX_LISTED:
                raise ValueError(f"more than {_MAX_LISTED} entries")
            known = entry.name.lower().endswith(_SUFFIXES[kind])
            if known and not entry.name.startswith("."):
                found.append(entry.name)
    return sorted(found, key=os.fsencode)


def _lines(path: Path, kind: str) -> list[dict[str, str]]:
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES >> 20} MiB")
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    return [_line(line, kind) for line in lines if line.strip()]


def _line(line: str, kind: str) -> dict[str, str]:
    stated = json.loads(line)
    field = _FIELDS[kind]
    if not isinstance(stated, dict) or not isinstance(stated.get(field), str):
        raise ValueError(f'a line without "{field}"')
    return {"file": stated[field], "label": _label(stated), "words": _words(stated)}


def _label(stated: dict[str, Any]) -> str:
    label = stated.get("label", "")
    if isinstance(label, bool) or not isinstance(label, (str, int)) or len(str(label)) > 1000:
        raise ValueError("a label is a class's name or number")
    str(label).encode()
    return str(label)


def _words(stated: dict[str, Any]) -> str:
    words = stated.get("text", "")
    if not isinstance(words, str) or len(words) > 100_000:
        raise ValueError("what a sound says is a text")
    words.encode()
    return words


def _given_file(root: Path, told: dict[str, str], kind: str) -> GivenFile:
    """Refuse what leads out of the folder, is no plain file, or is not of this kind."""
    name = told["file"]
    shown = ascii(name)[:200]
    try:
        inside, place = root.resolve(strict=True), (root / name).resolve(strict=True)
        if Path(name).is_absolute() or not place.is_relative_to(inside):
            raise UsageError(f"{shown} leads out of {root}", why="only what lies in it is read")
        state = place.stat()
        if not stat.S_ISREG(state.st_mode) or not 0 < state.st_size <= MAX_FILE_BYTES:
            raise UsageError(
                f"{shown} cannot be taken", why=f"a file of up to {MAX_FILE_BYTES >> 20} MiB can"
            )
        with place.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"{shown} cannot be read", why=str(error)[:300]) from None
    if kind == PICTURES and not content.startswith(_MAGIC):
        raise UsageError(f"{shown} is no picture", why="it does not begin as one")
    if kind == SOUNDS:
        _check_sound(place, shown)
    sha256 = hashlib.sha256(content).hexdigest()
    return GivenFile(place, sha256, told.get("label", ""), told.get("words", ""))


def _check_sound(place: Path, shown: str) -> None:
    heard = read_wav(place)
    seconds = len(heard.values) / heard.rate
    if seconds > MAX_SECONDS:
        raise UsageError(
            f"{shown} lasts {seconds:.0f} s", why=f"a proof takes sounds of up to {MAX_SECONDS} s"
        )


def _unwanted(path: Path, kind: str, spec: TaskSpec, why: str) -> UsageError:
    return UsageError(
        f"{path} is not what {spec.name} is calibrated with or proved on",
        why=why,
        next=f"give {_WANTED[kind]}",
    )
