"""Encoders as ONNX beside their peers: speed, size, accuracy, what compiling took.

usage: python benchmarks/onnx/encoders.py MODEL... [--target x86-64-cpu]

Ours are compiled and proved as `edgeward compile` does it. Peers: optimum-onnx and its O3, whose
graphs run in the same ONNX Runtime with one thread; torch eager and compiled, as child processes.
All are asked in turn (A B C B C A); the figures are medians of the rounds' own ratios to our fp32.
Of a model that transcribes the encoder is timed; ours gives the decoder's keys and values too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from decoders import HERE, Child, Contestant
from peers import Built, optimised, optimum, room

from edgeward.compiler.compile import CompileRequest, compile_model
from edgeward.compiler.tasks import task_spec
from edgeward.runtimes.bundle.read import Bundle
from edgeward.targets.probe import probe

OURS = ("fp32", "int8-dynamic")
LENGTHS = (32, 128)
WARM, ROUNDS = 3, 21
TASKS = {
    "feature-extraction": "feature-extraction",
    "image-feature-extraction": "feature-extraction",
    "automatic-speech-recognition": "automatic-speech-recognition",
}


@dataclass(frozen=True)
class Graph:
    """A graph in ONNX Runtime, and what it took to make."""

    name: str
    path: Path
    mebibytes: float
    seconds: float
    peak_mebibytes: float
    cosine: float | None = None


def ours(model: str, target: str, out: Path) -> list[tuple[Graph, Bundle]]:
    """Compile and prove; return the graphs that read."""
    found = []
    for precision in OURS:
        request = CompileRequest(
            model, (target,), out, precisions=(precision,), accept_degraded=True
        )
        (one,) = compile_model(request)
        manifest = one.bundle.manifest
        place = manifest.parts.get("encoder", manifest.entry)
        made = [s for s in manifest.stages if s.name in ("export", "optimise", "quantise")]
        path = one.bundle.path / place
        graph = Graph(
            f"edgeward {precision}",
            path,
            path.stat().st_size / 2**20,
            sum(stage.seconds for stage in made),
            max(stage.peak_memory_bytes for stage in made) / 2**20,
            manifest.proof.figures.get("eval_cosine_mean"),
        )
        found.append((graph, one.bundle))
    return found


def peers(model: Path, task: str, out: Path) -> list[Graph]:
    """Export with optimum-onnx, and optimise its graph with O3."""
    plain = optimum(model, out / "optimum", task)
    name = "encoder_model.onnx" if "speech" in task else "model.onnx"
    found = [_graph("optimum-onnx", plain, plain.folder / name)]
    best = optimised(plain.folder, out / "o3")
    if best is not None:
        path = best.folder / name.replace(".onnx", "_optimized.onnx")
        found.append(_graph("optimum-onnx O3", best, path))
    return found


def _graph(name: str, built: Built, path: Path) -> Graph:
    return Graph(name, path, path.stat().st_size / 2**20, built.seconds, built.peak_mebibytes)


def requests(graph: Path, length: int) -> dict[str, np.ndarray]:
    """Return one row of inputs: so many tokens, or the picture or frames that the graph takes."""
    session = _session(graph)
    ids = np.arange(1000, 1000 + length)[None]
    texts = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
    found = {}
    for item in session.get_inputs():
        if item.name in texts:
            found[item.name] = texts[item.name]
        else:
            shape = [axis if isinstance(axis, int) else 1 for axis in item.shape]
            found[item.name] = np.zeros(_stated(shape, item.name), np.float32)
    return found


def _stated(shape: Sequence[int], name: str) -> Sequence[int]:
    """Some exporters leave the sizes of a picture or of frames open."""
    known = {"pixel_values": (1, 3, 224, 224), "input_features": (1, 80, 3000)}
    return known.get(name, tuple(shape))


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])


def timed(asks: Sequence[Callable[[], float]]) -> list[float]:
    """Ask all in turn; return each one's median speed over the first one's."""
    for _ in range(WARM):
        for ask in asks:
            ask()
    rounds = []
    for number in range(ROUNDS):
        times = [0.0] * len(asks)
        for place in range(len(asks)):
            which = (place + number) % len(asks)
            times[which] = asks[which]()
        rounds.append(times)
    return [
        statistics.median(times[0] / times[which] for times in rounds) for which in range(len(asks))
    ]


def _in_engine(path: Path, inputs: dict[str, np.ndarray]) -> Callable[[], float]:
    session = _session(path)
    given = {item.name: inputs[item.name] for item in session.get_inputs()}

    def ask() -> float:
        began = time.perf_counter()
        session.run(None, given)
        return (time.perf_counter() - began) * 1e3

    return ask


def _in_torch(child: Child, inputs: dict[str, np.ndarray]) -> Callable[[], float]:
    if "input_ids" in inputs:
        length = inputs["input_ids"].shape[1]
        return lambda: child.ask(text=length)
    ((name, array),) = inputs.items()
    return lambda: child.ask(name=name, shape=list(array.shape))


def compared(model: Path, target: str, out: Path) -> None:
    """Compare one model's graphs and print the table."""
    mine = ours(str(model), target, out / "ours")
    task = mine[0][1].manifest.task
    graphs = [graph for graph, _ in mine] + peers(model, TASKS[task], out)
    auto_class = task_spec(task).auto_class
    script = HERE / "torch_encoder.py"
    children = {
        f"torch {mode}": Child(Contestant(mode, [room("torch"), script, model, auto_class, mode]))
        for mode in ("eager", "compile")
    }
    texts = task == "feature-extraction"
    speeds: dict[str, list[float]] = {}
    for length in LENGTHS if texts else (0,):
        inputs = requests(graphs[0].path, length)
        everything = {"token_type_ids": inputs.get("input_ids", 0) * 0, **inputs}
        asks = {graph.name: _in_engine(graph.path, everything) for graph in graphs}
        asks |= {name: _in_torch(child, inputs) for name, child in children.items()}
        for name, speed in zip(asks, timed(list(asks.values())), strict=True):
            speeds.setdefault(name, []).append(speed)
    for child in children.values():
        child.close()
    shown = [f"{length} tokens" for length in LENGTHS] if texts else ["one input"]
    print(f"\n{model.name}, speed over edgeward fp32")
    print(f"{'':20}{'MiB':>8}{'seconds':>9}{'peak MiB':>10}{'cosine':>9}  {'  '.join(shown)}")
    by_name = {graph.name: graph for graph in graphs}
    for name, found in speeds.items():
        graph = by_name.get(name)
        cells = f"{'':36}" if graph is None else _cells(graph)
        print(f"{name:20}{cells}  {'  '.join(f'{speed:9.2f}' for speed in found)}")


def _cells(graph: Graph) -> str:
    cosine = "" if graph.cosine is None else f"{graph.cosine:.5f}"
    return f"{graph.mebibytes:8.1f}{graph.seconds:9.0f}{graph.peak_mebibytes:10.0f}{cosine:>9}"


def main() -> None:
    """Compare each model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--target", default="x86-64-cpu")
    asked = parser.parse_args()
    machine = probe()
    print(f"{machine.cpu_model}, {machine.cores} cores; onnxruntime {onnxruntime.__version__}")
    for model in asked.models:
        with tempfile.TemporaryDirectory() as scratch:
            compared(model, asked.target, Path(scratch))


if __name__ == "__main__":
    main()
