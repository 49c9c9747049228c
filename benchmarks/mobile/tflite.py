"""TFLite by edgeward beside litert-torch's plain conversion and ONNX Runtime, as Markdown.

usage: tflite.py MODEL... [--rounds N] [--precisions P,P]. Each MODEL is a folder of an encoder.
Every file runs in turn, one thread each, on the same inputs; a ratio is the median of the rounds'.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.compiler.compile import CompileRequest, compile_model
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains.manager import Toolchains
from edgeward.errors import EdgewardError

ROOT = Path(__file__).parents[2]
CHILD = Path(__file__).with_name("tflite_child.py")
TARGET, PLAIN = "android-mid", "litert-torch, plain"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}


class Child:
    """A process that holds files of one engine."""

    def __init__(self, python: Path, inputs: Path, files: list[Path]) -> None:
        command = [python, CHILD, inputs, *files]
        self.process = subprocess.Popen(
            command, env=ENVIRONMENT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.answer()

    def ask(self, line: object) -> str:
        """Send a line and return the answer."""
        print(line, file=self.process.stdin, flush=True)
        return self.answer()

    def answer(self) -> str:
        """Return one line; an error where the process ended."""
        line = next(iter(self.process.stdout or ()), "")
        if not line:
            raise SystemExit(f"a child ended: {self.process.wait()}")
        return line.strip()


def made(model: Path, folder: Path, format_name: str, precisions: list[str]) -> dict[str, Path]:
    """Compile, and return each precision's file; one that does not pass is left out, with why."""
    files: dict[str, Path] = {}
    for precision in precisions:
        request = CompileRequest(
            model=str(model), targets=(TARGET,), output=folder, precisions=(precision,),
            format=format_name, shapes=None if format_name == "tflite" else shapes_of(model),
        )  # fmt: skip
        try:
            for one in compile_model(request):
                files[precision] = one.bundle.entry
        except EdgewardError as error:
            print(f"{format_name} {precision}: {error}", file=sys.stderr)
    return files


def shapes_of(model: Path) -> str:
    """The shapes that a TFLite file has where nobody asks for others."""
    return "batch=1,sequence=128" if (model / "tokenizer.json").is_file() else "batch=1"


def inputs_of(model: Path, path: Path) -> Path:
    """Write what every file is fed: 128 tokens, or a picture of noise."""
    random = np.random.default_rng(0)
    if (model / "tokenizer.json").is_file():
        ids = random.integers(1000, 20000, (1, 128))
        ones = np.ones_like(ids)
        np.savez(path, input_ids=ids, attention_mask=ones, token_type_ids=ones * 0)
    else:
        np.savez(path, pixel_values=random.standard_normal((1, 3, 224, 224)).astype(np.float32))
    return path


def compared(model: Path, precisions: list[str], rounds: int, folder: Path) -> list[str]:
    """Return one model's table."""
    toolchains = Toolchains()
    python = {
        name: toolchains.ensure(name, NullReporter()).python
        for name in ("litert", "litert-runtime", "onnxruntime")
    }
    inputs, plain = inputs_of(model, folder / "inputs.npz"), folder / "plain.tflite"
    subprocess.run(
        [python["litert"], CHILD, "convert", model, inputs, plain],
        env=ENVIRONMENT, check=False, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    ours = made(model, folder, "tflite", precisions)
    onnx = made(model, folder, "onnx", ["fp32"])
    rows = {f"edgeward, TFLite {name}": file for name, file in ours.items()}
    if plain.is_file():
        rows[PLAIN] = plain
    first = Child(python["litert-runtime"], inputs, list(rows.values()))
    second = Child(python["onnxruntime"], inputs, list(onnx.values()))
    calls = [(first, n) for n in range(len(rows))] + [(second, n) for n in range(len(onnx))]
    rows |= {f"edgeward, ONNX Runtime {name}": file for name, file in onnx.items()}
    times = measured(calls, rounds)
    wanted = np.load(f"{plain}.npy")
    found = [*saved(first, folder / "a.npz"), *saved(second, folder / "b.npz")]
    lines = [f"### {model.name}", "", "| file | MiB | cosine | ms | of plain | of ONNX Runtime |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    names = list(rows)
    bases = [names.index(PLAIN) if PLAIN in names else None, len(names) - 1]
    for n, name in enumerate(names):
        ratios = " | ".join(ratio(times, n, base) for base in bases)
        size, cosine = rows[name].stat().st_size / 2**20, likeness(wanted, found[n])
        middle = statistics.median(row[n] for row in times) * 1e3
        lines.append(f"| {name} | {size:.1f} | {cosine:.6f} | {middle:.1f} | {ratios} |")
    return lines


def measured(calls: list[tuple[Child, int]], rounds: int) -> list[list[float]]:
    """Return the seconds of every file, round by round; each begins a round in its turn."""
    found = []
    for number in range(rounds + 3):
        row = [0.0] * len(calls)
        for place in range(len(calls)):
            which = (place + number) % len(calls)
            child, index = calls[which]
            row[which] = float(child.ask(index))
        found.append(row)
    return found[3:]


def ratio(times: list[list[float]], which: int, base: int | None) -> str:
    """The median of one file's time over another's in the same round."""
    if base is None:
        return "does not convert"
    return f"{statistics.median(row[which] / row[base] for row in times):.2f}"


def saved(child: Child, path: Path) -> list[Any]:
    """Return what each file of a child gives."""
    child.ask(f"save {path}")
    with np.load(path) as found:
        return [found[name] for name in sorted(found.files, key=int)]


def likeness(wanted: Any, found: Any) -> float:
    """The mean cosine of the tokens' vectors."""
    a, b = (np.asarray(each, np.float64).reshape(-1, each.shape[-1]) for each in (wanted, found))
    scale = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / scale).mean())


def main() -> None:
    """Print a table a model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--precisions", default="fp32,fp16,int8-dynamic,int8-weights,int4-weights")
    given = parser.parse_args()
    for model in given.models:
        with tempfile.TemporaryDirectory() as folder:
            precisions = given.precisions.split(",")
            print("\n".join(compared(model, precisions, given.rounds, Path(folder))))
            print()


if __name__ == "__main__":
    main()
