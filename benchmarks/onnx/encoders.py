"""Encoders as ONNX beside their peers: speed, size, accuracy, what compiling took.

usage: python benchmarks/onnx/encoders.py MODEL... [--target x86-64-cpu]

Ours are compiled and proved as `edgeward compile` does it, and run in our runtime. Peers:
optimum-onnx, its O3 and its dynamic int8, whose graphs run in the same ONNX Runtime with one
thread; torch eager and compiled, as child processes. All are asked in turn (A B C B C A); the
figures are medians of the rounds' own ratios to our fp32. Accuracy is the mean cosine of all states
with those of our fp32, which the compile proves equal to torch's. Of a model that transcribes the
encoder alone is timed: the decoder's keys and values, which ours gives besides, are cut off.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
from decoders import HERE, Child, Contestant
from evaluation import Inputs, evaluation, mean_cosine
from peers import Built, optimised, optimum, quantised, room
from rows import Row, print_rows

from edgeward.compiler.compile import CompileRequest, compile_model
from edgeward.compiler.formats.onnx_passes.graph import Graph as Onnx
from edgeward.compiler.tasks import task_spec
from edgeward.runtimes.bundle.read import Bundle
from edgeward.runtimes.engines.base import EngineOptions
from edgeward.runtimes.engines.onnxruntime import open_model
from edgeward.targets.probe import probe

OURS = ("fp32", "int8-dynamic", "int8-weights", "int4-weights")
LENGTHS = (32, 128)
WARM, ROUNDS = 3, 21
STATES = "last_hidden_state"
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
    ours: bool = False

    def session(self) -> onnxruntime.InferenceSession:
        """Load it: ours as our runtime does it, the others as they come."""
        if self.ours:
            return open_model(self.path, EngineOptions(threads=1)).native
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(str(self.path), options, ["CPUExecutionProvider"])


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
        path = states_alone(one.bundle.path / place, out)
        graph = Graph(
            f"edgeward {precision}",
            path,
            path.stat().st_size / 2**20,
            sum(stage.seconds for stage in made),
            max(stage.peak_memory_bytes for stage in made) / 2**20,
            ours=True,
        )
        found.append((graph, one.bundle))
    return found


def states_alone(path: Path, out: Path) -> Path:
    """Return a graph that gives its states and nothing else; itself where it does already."""
    graph = Onnx(path)
    kept = [value for value in graph.proto.output if value.name == STATES]
    if len(kept) == len(graph.proto.output):
        return path
    del graph.proto.output[:]
    graph.proto.output.extend(kept)
    alone = out / f"states-{path.name}"
    graph.save(alone)
    return alone


def peers(model: Path, task: str, out: Path) -> list[Graph]:
    """Export with optimum-onnx, optimise its graph with O3, quantise it."""
    plain = optimum(model, out / "optimum", task)
    stem = "encoder_model" if "speech" in task else "model"
    found = [_graph("optimum-onnx", plain, plain.folder / f"{stem}.onnx")]
    best, small = optimised(plain.folder, out / "o3"), quantised(plain.folder, out / "int8")
    for name, built, suffix in (("O3", best, "optimized"), ("int8", small, "quantized")):
        if built is not None:
            path = built.folder / f"{stem}_{suffix}.onnx"
            whole = replace(built, seconds=plain.seconds + built.seconds)
            found.append(_graph(f"optimum-onnx {name}", whole, path))
    return found


def _graph(name: str, built: Built, path: Path) -> Graph:
    return Graph(name, path, path.stat().st_size / 2**20, built.seconds, built.peak_mebibytes)


def asked(graph: Graph, length: int) -> dict[str, np.ndarray]:
    """Return one row of inputs: so many tokens, or the picture or frames that the graph takes."""
    ids = np.arange(1000, 1000 + length)[None]
    texts = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
    found = {}
    for item in graph.session().get_inputs():
        if item.name in texts:
            found[item.name] = texts[item.name]
        else:
            shape = [axis if isinstance(axis, int) else 1 for axis in item.shape]
            found[item.name] = np.zeros(shape, np.float32)
    return found


def timed(asks: Sequence[Callable[[], float]]) -> list[list[float]]:
    """Ask all in turn; return every round's milliseconds of each."""
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
    return rounds


def _in_engine(
    session: onnxruntime.InferenceSession, inputs: Mapping[str, np.ndarray]
) -> Callable[[], float]:
    given = _taken(session, inputs)

    def ask() -> float:
        began = time.perf_counter()
        session.run(None, given)
        return (time.perf_counter() - began) * 1e3

    return ask


def _taken(
    session: onnxruntime.InferenceSession, inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    everything = {"token_type_ids": np.asarray(inputs.get("input_ids", 0)) * 0, **inputs}
    return {item.name: everything[item.name] for item in session.get_inputs()}


def _in_torch(child: Child, inputs: Mapping[str, np.ndarray]) -> Callable[[], float]:
    if "input_ids" in inputs:
        length = inputs["input_ids"].shape[1]
        return lambda: child.ask(text=length)
    ((name, array),) = inputs.items()
    return lambda: child.ask(name=name, shape=list(array.shape))


def _states(session: onnxruntime.InferenceSession, given: Sequence[Inputs]) -> list[np.ndarray]:
    return [session.run([STATES], _taken(session, inputs))[0] for inputs in given]


def compared(model: Path, target: str, out: Path) -> list[Row]:
    """Compare one model's graphs."""
    mine = ours(str(model), target, out / "ours")
    bundle = mine[0][1]
    task = bundle.manifest.task
    graphs = [graph for graph, _ in mine] + peers(model, TASKS[task], out)
    # Peers first: what their loading frees must not have asked for huge pages.
    sessions = {graph.name: graph.session() for graph in reversed(graphs)}
    auto_class = task_spec(task).auto_class
    script = HERE / "torch_encoder.py"
    children = {
        name: Child(Contestant(name, [room("torch"), script, model, auto_class, mode]))
        for name, mode in (("torch eager", "eager"), ("torch.compile", "compile"))
    }
    phases: dict[str, list[list[float]]] = {}
    for length in LENGTHS if task == "feature-extraction" else (0,):
        inputs = asked(graphs[0], length)
        asks = [_in_engine(sessions[graph.name], inputs) for graph in graphs]
        asks += [_in_torch(child, inputs) for child in children.values()]
        phases[f"{length} tokens" if length else "one input"] = timed(asks)
    for child in children.values():
        child.close()
    given = evaluation(bundle)
    wanted = _states(sessions[graphs[0].name], given)
    rows = []
    for which, name in enumerate([*(graph.name for graph in graphs), *children]):
        graph = next((one for one in graphs if one.name == name), None)
        speeds = {
            phase: statistics.median(row[0] / row[which] for row in rounds)
            for phase, rounds in phases.items()
        }
        row = Row(model.name, name, speeds)
        if graph is not None:
            row = replace(
                row,
                mebibytes=graph.mebibytes,
                accuracy={"cosine": mean_cosine(_states(sessions[name], given), wanted)},
                seconds=graph.seconds,
                peak_mebibytes=graph.peak_mebibytes,
            )
        rows.append(row)
    return rows


def main() -> None:
    """Compare each model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--target", default="x86-64-cpu")
    given = parser.parse_args()
    machine = probe()
    print(f"{machine.cpu_model}, {machine.cores} cores; onnxruntime {onnxruntime.__version__}")
    for model in given.models:
        with tempfile.TemporaryDirectory() as scratch:
            print_rows(compared(model, given.target, Path(scratch)))


if __name__ == "__main__":
    main()
