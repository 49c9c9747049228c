"""The peers' own environments and their builds of a model, made once below the cache."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from edgeward.compiler.cache_dir import cache_root
from edgeward.compiler.child import clean_environment

TORCH = "torch==2.13.0"
ROOMS = {
    "genai": ("onnxruntime-genai==0.18.0", "onnxruntime==1.32.0", "transformers==5.23.0",
              "onnx==1.23.2", "onnx-ir==1.1.0", TORCH),
    "optimum": ("optimum-onnx==0.1.0", "onnxruntime==1.32.0", "transformers==4.57.6",
                "pillow==13.0.0", TORCH),
    "torch": ("transformers==5.23.0", TORCH),
    "plot": ("matplotlib==3.11.2",),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Built:
    """What a peer made of a model, and what it took."""

    folder: Path
    seconds: float
    peak_mebibytes: float

    @property
    def mebibytes(self) -> float:
        """The size of its graph and weights."""
        return sum(path.stat().st_size for path in self.folder.glob("model*.onnx*")) / 2**20


def room(name: str) -> Path:
    """Return the Python of a peer's environment, torch never another than ours."""
    folder = cache_root() / "peers" / name
    python = folder / "bin" / "python"
    if not (folder / ".ready").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        constraint = folder / "torch.txt"
        constraint.write_text(TORCH + "\n")
        pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "-c", constraint, *ROOMS[name]], check=True)
        (folder / ".ready").touch()
    return python


def genai(model: Path, out: Path, precision: str) -> Built:
    """Build with onnxruntime-genai's builder."""
    command = [room("genai"), "-m", "onnxruntime_genai.models.builder", "-i", model, "-o", out]
    return _built(out, [*command, "-p", precision, "-e", "cpu", "-c", out / "cache"])


def optimum(model: Path, out: Path, task: str = "text-generation-with-past") -> Built:
    """Export with optimum-onnx; its transformers reads another form of the configuration."""
    readable = out.parent / f"{out.name}-source"
    shutil.copytree(model, readable)
    path = readable / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters", None) or {}
    if "rope_theta" in rope:
        config["rope_theta"] = rope["rope_theta"]
    config["torch_dtype"] = config.pop("dtype", "float32")
    path.write_text(json.dumps(config))
    tool = room("optimum").parent / "optimum-cli"
    return _built(out, [tool, "export", "onnx", "--model", readable, "--task", task, out])


def optimised(exported: Path, out: Path) -> Built | None:
    """Optimise an export of optimum-onnx with its O3; None where it does not know the model."""
    tool = room("optimum").parent / "optimum-cli"
    command = [tool, "onnxruntime", "optimize", "--onnx_model", exported, "-O3", "-o", out]
    try:
        return _built(out, command)
    except SystemExit as refused:
        print(f"not optimised: {refused}", file=sys.stderr)
        return None


def quantised(exported: Path, out: Path) -> Built | None:
    """Quantise an export of optimum-onnx to dynamic int8, per channel; None where it cannot."""
    tool = room("optimum").parent / "optimum-cli"
    command = [tool, "onnxruntime", "quantize", "--onnx_model", exported, "--avx512_vnni"]
    try:
        return _built(out, [*command, "--per_channel", "-o", out])
    except SystemExit as refused:
        print(f"not quantised: {refused}", file=sys.stderr)
        return None


def _built(out: Path, command: list[object]) -> Built:
    began = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=clean_environment({"HF_HUB_OFFLINE": "1"}),
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    if status:
        raise SystemExit(f"{' '.join(str(part) for part in command)} failed")
    return Built(out, time.perf_counter() - began, usage.ru_maxrss / 1024)
