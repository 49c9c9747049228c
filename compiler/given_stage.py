"""The stage that takes what was given into the cache: checked, whole, before any other work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeward.errors import IntegrityError, UsageError
from edgeward.runtimes.tasks.pictures import open_picture
from edgeward.runtimes.tasks.sound import read_wav

from .given_data import PICTURES, GivenData
from .stage_context import StageContext
from .stages import StageInput, StageSpec

INPUT = "given"
_LISTED = "files.json"


@dataclass(frozen=True, slots=True)
class Kept:
    """One file as the stage keeps it."""

    name: str
    content: bytes
    label: str = ""
    words: str = ""


def given_stage(given: GivenData | None, toolchain: str) -> StageSpec | None:
    """Return the stage that keeps the files of a set, None where it has none."""
    if given is None or not given.files:
        return None
    return StageSpec(
        name="data",
        call="edgeward.compiler.given_stage:keep",
        version=1,
        inputs={f"{n:04d}": StageInput(f.path, f.sha256) for n, f in enumerate(given.files)},
        params={
            "kind": given.kind,
            "sha256": [one.sha256 for one in given.files],
            "labels": [one.label for one in given.files],
            "words": [one.words for one in given.files],
        },
        toolchain=toolchain,
    )


def keep(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Read each file as the device will, and keep it under a plain name.

    Raises UsageError where one cannot be read, or is another than it was.
    """
    listed = []
    for number, sha256 in enumerate(params["sha256"]):
        source, name = context.inputs[f"{number:04d}"], f"{number:04d}"
        context.progress(number / len(params["sha256"]), source.name)
        content = source.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise UsageError(f"{source} was changed while it was read")
        if params["kind"] == PICTURES:
            open_picture(source)
        else:
            read_wav(source)
        (context.out / name).write_bytes(content)
        told = {"label": params["labels"][number], "words": params["words"][number]}
        listed.append({"file": name, "name": ascii(source.name)[1:-1], **told})
    (context.out / _LISTED).write_text(json.dumps(listed), encoding="utf-8")
    return {"summary": f"{len(listed)} {params['kind']}"}


def kept_files(folder: Path | None, most: int) -> list[Kept]:
    """Return at most `most` of the files that the stage kept, in order; none without a folder."""
    if folder is None:
        return []
    try:
        listed = json.loads((folder / _LISTED).read_text(encoding="utf-8"))[:most]
        return [
            Kept(one["name"], (folder / one["file"]).read_bytes(), one["label"], one["words"])
            for one in listed
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{folder} is damaged", why=str(error)) from None
