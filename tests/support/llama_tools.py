"""llama.cpp's own tools, bare: what edgeward's stages are held to byte for byte."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from documents import ROOT

from edgeward.compiler.cache_dir import cache_root
from edgeward.compiler.child import clean_environment
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains.from_source import unpack
from edgeward.compiler.toolchains.lock import Unpacked, read_lock
from edgeward.compiler.toolchains.manager import Toolchains
from edgeward.compiler.toolchains.registry import lock_path

SCRIPT = "convert_hf_to_gguf.py"
SUPPORT = ROOT / "tests" / "support"
# The script's main, called once for each model: torch is imported once.
_CONVERT = """
import json, sys
import convert_hf_to_gguf
for call in json.loads(sys.argv[1]):
    sys.argv = ["convert_hf_to_gguf.py", *call]
    convert_hf_to_gguf.main()
"""


def toolchain_python(name: str) -> Path:
    """Return the Python of a toolchain, made the first time."""
    return Toolchains().ensure(name, NullReporter()).python


def run_there(name: str, *words: str | Path, paths: Sequence[Path] = ()) -> str:
    """Run a command of a toolchain's Python with tests' support on its path; returns its stdout."""
    path = ":".join(str(one) for one in (ROOT / "src", SUPPORT, *paths))
    environment = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "NO_LOCAL_GGUF": "1"}
    done = subprocess.run(
        [toolchain_python(name), *words],
        capture_output=True,
        text=True,
        env=clean_environment(environment),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def converter() -> Path:
    """Return the folder that holds `convert_hf_to_gguf.py`, of the sources of the toolchain."""
    wanted = read_lock("gguf", lock_path("gguf")).unpacked[0].pin
    folder = cache_root() / "peers" / wanted.replace("==", "-")
    if (folder / SCRIPT).is_file():
        return folder
    with tempfile.TemporaryDirectory() as scratch:
        pip = ["-m", "pip", "--disable-pip-version-check", "download", "-qq", "--no-deps"]
        source = [f"--no-binary={wanted.partition('==')[0]}", "--dest", scratch, wanted]
        subprocess.run([toolchain_python("llama"), *pip, *source], check=True)
        archive = next(Path(scratch).iterdir())
        folder.mkdir(parents=True, exist_ok=True)
        unpack(archive, Unpacked(wanted, (f"vendor/llama.cpp/{SCRIPT}",)), folder)
    return folder


def bare_convert(models: Mapping[Path, tuple[Path, str]]) -> None:
    """Convert each model's folder to a file of a type (f32, f16, bf16), by the script's main."""
    calls = [
        [str(model), "--outfile", str(file), "--outtype", kind]
        for model, (file, kind) in models.items()
    ]
    run_there("gguf", "-c", _CONVERT, json.dumps(calls), paths=[converter()])


def bare_quantise(source: Path, target: Path, **settings: Any) -> None:
    """Quantise by llama.cpp's function with these settings and its defaults for all others."""
    script = SUPPORT / "bare_quantise.py"
    run_there("llama", script, source, target, json.dumps(settings))


def make_models(folder: Path, tokenizer: Path, *names: str) -> Path:
    """Write tiny random models; returns the folder."""
    run_there("gguf", SUPPORT / "make_gguf_models.py", folder, tokenizer, *names)
    return folder
