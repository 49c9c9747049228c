"""Writes a bundle again and again, killed one file operation later each time.

`python kill_steps.py GOOD FOLDER swap|two-step` prints one JSON object a step, with what the
kill left; the last step is the one that came to its end.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import sys
from pathlib import Path

from edgeward.errors import BundleError
from edgeward.runtimes.bundle import replace
from edgeward.runtimes.bundle.read import Bundle, open_bundle
from edgeward.runtimes.bundle.write import writing_bundle

_WATCHED = ("open", "os.", "shutil.", "tempfile.", "fcntl.", "ctypes.")


def write_copy(good: Bundle, place: Path, name: str) -> None:
    """Write two of the good bundle's files, one of them in a folder, under another name."""
    kept = (good.manifest.entry, "config.json")
    with writing_bundle(place) as writer:
        for path in kept:
            writer.add(path, good.path / path)
        document = json.loads((good.path / "manifest.json").read_text())
        files = [entry for entry in document["files"] if entry["path"] in kept]
        writer.write_manifest({**document, "name": name, "files": files, "golden": None})


def die_at(step: int) -> None:
    """Kill this process before its file operation number `step`."""
    count = itertools.count()

    def hook(event: str, _: tuple[object, ...]) -> None:
        if event.startswith(_WATCHED) and next(count) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def killed_write(good: Bundle, place: Path, step: int) -> bool:
    """Write in a forked child that dies at `step`; whether it came to its end first."""
    child = os.fork()
    if child == 0:
        die_at(step)
        write_copy(good, place, "new")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"the writer failed at step {step}")
    return not os.WIFSIGNALED(status)


def what_stands_at(place: Path) -> str:
    """The name of the bundle, or the command that brings it back."""
    try:
        return open_bundle(place).manifest.name
    except BundleError as error:
        return f"{error.what.partition(' at ')[0]}; {error.next.partition(' ')[0]}"


def names(folder: Path) -> list[str]:
    """What lies there, hidden or not."""
    return sorted(entry.name for entry in folder.iterdir())


def one_step(good: Bundle, folder: Path, step: int) -> dict[str, object]:
    """Kill a writer at `step` over an old bundle, look, write again, look again."""
    place = folder / f"step-{step}" / "bundle"
    write_copy(good, place, "old")
    finished = killed_write(good, place, step)
    found = what_stands_at(place)
    write_copy(good, place, "next")
    after, left = what_stands_at(place), names(place.parent)
    shutil.rmtree(place.parent)
    return {"finished": finished, "found": found, "after": after, "left": left}


def main(good: Bundle, folder: Path, how: str) -> None:
    """Go on until a writer outlives its step."""
    if how == "two-step":
        replace.exchange = lambda *_: False  # type: ignore[assignment]
    for step in itertools.count():
        told = one_step(good, folder, step)
        sys.stdout.write(json.dumps(told) + "\n")
        if told["finished"]:
            return


if __name__ == "__main__":
    main(open_bundle(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
