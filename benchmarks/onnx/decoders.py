"""A text generator as ONNX beside its peers: prefill, decode, size, accuracy, what compiling took.

usage: python benchmarks/onnx/decoders.py MODEL [--target x86-64-cpu]

Ours are compiled and proved as `edgeward compile` does it. Peers: optimum-onnx and its dynamic
int8, onnxruntime-genai's builder (fp32 and int4) in its own runtime, torch eager and compiled.
Each contestant is a child process with one thread; they are asked in turn (A B C B C A), and the
figures are medians of the rounds' own ratios to our fp32. Accuracy is measured by running each
graph on our evaluation passages against torch in float32: divergence in nats, share of equal
likeliest tokens, perplexity.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx
import onnxruntime
from peers import Built, genai, optimum, quantised, room
from rows import Row, print_rows

from edgeward.compiler.child import clean_environment
from edgeward.compiler.compile import CompileRequest, compile_model, stage_runner
from edgeward.compiler.generation_reference import EVALUATION
from edgeward.compiler.progress import NullReporter
from edgeward.runtimes.bundle.read import Bundle
from edgeward.runtimes.engines.base import EngineOptions
from edgeward.runtimes.engines.onnxruntime import open_model
from edgeward.runtimes.proof.generation import generation_metrics, read_cases
from edgeward.runtimes.tasks.generation import Generator
from edgeward.targets.probe import probe

PREFILL, PASTS, STEPS, ROUNDS = 128, (128, 1024), 8, 5
OURS = ("fp32", "int8-dynamic", "int8-weights", "int4-weights")
CHILDREN = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
ACCURACY = {"KL": "kl_mean", "top-1": "top1_agreement", "perplexity": "perplexity_ratio"}
HERE = Path(__file__).parent / "contestants"
IDS = [100 + (number * 37) % 9000 for number in range(1024)]


@dataclass(frozen=True)
class Contestant:
    """A name, the command that answers, its graph where it has one, and what it took to make."""

    name: str
    command: Sequence[object]
    graph: Path | None = None
    mebibytes: float = 0.0
    seconds: float = 0.0
    peak_mebibytes: float = 0.0
    environment: Mapping[str, str] = field(default_factory=dict)


class Child:
    """A contestant's process."""

    def __init__(self, contestant: Contestant) -> None:
        self._process = subprocess.Popen(
            [str(part) for part in contestant.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=clean_environment({**CHILDREN, **contestant.environment}),
        )
        self._answer()

    def ask(self, **asked: object) -> float:
        """Return the milliseconds of one request."""
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return self._answer()["ms"]

    def close(self) -> None:
        """End it."""
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict[str, float]:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._process.args} gave no answer")
        return json.loads(line)


def measured(contestants: Sequence[Contestant]) -> dict[str, list[list[float]]]:
    """Return, for each phase, every round's milliseconds of each contestant."""
    children = [Child(one) for one in contestants]
    found: dict[str, list[list[float]]] = {}
    for past in PASTS:
        for number in range(ROUNDS):
            prefills, steps = [0.0] * len(children), [[] for _ in children]
            for which in _order(len(children), number):
                prefills[which] = children[which].ask(prefill=IDS[:past])
            for step in range(STEPS):
                for which in _order(len(children), number + step):
                    steps[which].append(children[which].ask(decode=IDS[step]))
            found.setdefault(f"prefill {past}", []).append(prefills)
            medians = [statistics.median(one) for one in steps]
            found.setdefault(f"decode at {past}", []).append(medians)
    for child in children:
        child.close()
    return found


def _order(count: int, turn: int) -> list[int]:
    return [(place + turn) % count for place in range(count)]


def accuracy(graph: Path, assets: Path, cases: Sequence[object]) -> dict[str, float]:
    """Run a graph on the evaluation passages."""
    generator = Generator(assets, open_model(graph, EngineOptions(threads=1)))
    found = generation_metrics(generator, [replace(case, greedy=()) for case in cases])
    return {name: found[metric] for name, metric in ACCURACY.items()}


def with_known_width(graph: Path, like: Path) -> Path:
    """Return a copy of a graph whose cache has the heads and the width that ours states."""
    known = {value.name: value for value in onnx.load(like, load_external_data=False).graph.input}
    model = onnx.load(graph, load_external_data=False)
    for value in model.graph.input:
        if value.name.startswith("past_key_values."):
            shape = known[value.name].type.tensor_type.shape
            for axis in (1, 3):
                wanted = shape.dim[axis].dim_value
                value.type.tensor_type.shape.dim[axis].dim_value = wanted
    stated = graph.with_name(f"stated-{graph.name}")
    onnx.save(model, stated)
    return stated


def ours(model: str, target: str, out: Path) -> tuple[list[Contestant], Bundle, list[object]]:
    """Compile, and return the contestants, the fp32 bundle and the evaluation passages."""
    contestants, bundles, evaluation = [], [], None
    for precision in OURS:
        request = CompileRequest(
            model, (target,), out, precisions=(precision,), accept_degraded=True
        )
        with stage_runner(request, NullReporter()) as runner:
            ran = []
            run = runner.run
            runner.run = lambda spec, run=run, ran=ran: ran.append((spec, run(spec))) or ran[-1][1]
            (one,) = compile_model(request, runner=runner)
        evaluation = next(r.path for spec, r in ran if spec.name == "reference") / EVALUATION
        made = [s for s in one.bundle.manifest.stages if s.name in ("export", "quantise")]
        bundles.append(one.bundle)
        contestants.append(
            Contestant(
                f"edgeward {precision}",
                [sys.executable, HERE / "edgeward_bundle.py", one.bundle.path],
                one.bundle.entry,
                one.bundle.entry.stat().st_size / 2**20,
                sum(stage.seconds for stage in made),
                max(stage.peak_memory_bytes or 0 for stage in made) / 2**20,
            )
        )
    return contestants, bundles[0], list(read_cases(evaluation))


def peers(model: Path, out: Path) -> list[Contestant]:
    """Build with every peer."""

    def of(name: str, script: str, where: str, built: Built) -> Contestant:
        command = [room(where), HERE / script, built.folder]
        return Contestant(
            name,
            command,
            next(iter(sorted(built.folder.glob("model*.onnx")))),
            built.mebibytes,
            built.seconds,
            built.peak_mebibytes,
        )

    torch = [room("torch"), HERE / "torch_model.py", model]
    plain = optimum(model, out / "optimum")
    found = [of("optimum-onnx", "optimum_onnx.py", "optimum", plain)]
    small = quantised(plain.folder, out / "optimum8")
    if small is not None:
        whole = replace(small, seconds=plain.seconds + small.seconds)
        found.append(of("optimum-onnx int8", "optimum_onnx.py", "optimum", whole))
    return [
        *found,
        of("genai fp32", "genai.py", "genai", genai(model, out / "genai32", "fp32")),
        of("genai int4", "genai.py", "genai", genai(model, out / "genai4", "int4")),
        Contestant("torch eager", [*torch, "eager"]),
        Contestant("torch.compile", [*torch, "compile"]),
    ]


def compared(model: Path, target: str, out: Path) -> list[Row]:
    """Compile, build, ask in turn; return a row for each contestant."""
    mine, exact, cases = ours(str(model), target, out / "ours")
    contestants = [*mine, *peers(model, out)]
    phases = measured(contestants)
    rows = []
    for which, one in enumerate(contestants):
        speeds = {
            name: statistics.median(row[0] / row[which] for row in rounds)
            for name, rounds in phases.items()
        }
        row = Row(model.name, one.name, speeds)
        if one.graph is not None:
            stated = with_known_width(one.graph, exact.entry)
            row = replace(
                row,
                mebibytes=one.mebibytes,
                accuracy=accuracy(stated, exact.path, cases),
                seconds=one.seconds,
                peak_mebibytes=one.peak_mebibytes,
            )
        rows.append(row)
    return rows


def main() -> None:
    """Compare one model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--target", default="x86-64-cpu")
    given = parser.parse_args()
    machine = probe()
    print(f"{machine.cpu_model}, {machine.cores} cores, {platform.machine()}; "
          f"onnxruntime {onnxruntime.__version__}, 1 thread")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        print_rows(compared(given.model, given.target, Path(folder)))


if __name__ == "__main__":
    main()
