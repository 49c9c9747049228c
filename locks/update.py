"""Write locks/dev.txt: every version that `make setup` installs, for each Python that we support.

Asks pip to resolve the project for each interpreter found, without installing, and merges the
answers into one constraints file with markers where they differ.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
PINNED = ("onnx==1.23.2",)


def main() -> None:
    """Resolve with every interpreter there is and write the file."""
    answers = {v: resolve(path) for v in PYTHONS if (path := shutil.which(f"python{v}"))}
    if not answers:
        sys.exit(f"none of python{', python'.join(PYTHONS)} was found")
    (ROOT / "locks" / "dev.txt").write_text("\n".join(merge(answers)) + "\n")


def resolve(python: str) -> dict[str, str]:
    """Return the versions that pip would install with this interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        command = [f"{folder}/bin/python", "-m", "pip", "install", "--quiet", "--dry-run"]
        command += ["--report", f"{folder}/report.json", f"{ROOT}[dev]", *PINNED]
        subprocess.run(command, check=True)
        report = json.loads(Path(folder, "report.json").read_text())
    found = {i["metadata"]["name"].lower(): i["metadata"]["version"] for i in report["install"]}
    found.pop("edgeward", None)
    return found


def merge(answers: dict[str, dict[str, str]]) -> list[str]:
    """Return one line a version, with a marker where interpreters differ."""
    lines = []
    for name in sorted({name for found in answers.values() for name in found}):
        versions = {python: found[name] for python, found in answers.items() if name in found}
        if len(set(versions.values())) == 1 and len(versions) == len(answers):
            lines.append(f"{name}=={next(iter(versions.values()))}")
            continue
        lines += [f'{name}=={v} ; python_version == "{p}"' for p, v in versions.items()]
    return lines


if __name__ == "__main__":
    main()
