"""Every ONNX precision of one model: size, accuracy, and time against fp32.

usage: python benchmarks/onnx/precisions.py MODEL [--target x86-64-cpu]

Each bundle is compiled and proved as `edgeward compile` does it; then all are loaded in this
process and asked the golden case of middle size in turn (A B C A B C), one thread. Prints a row
each: MiB, cosine mean on the evaluation set and worst on the hard inputs, and the median of the
rounds' own ratios to fp32.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from pathlib import Path

import onnxruntime

from edgeward.compiler.compile import CompileRequest, compile_model
from edgeward.runtimes.bundle.read import Bundle
from edgeward.runtimes.proof.registry import proof_for
from edgeward.runtimes.session import load
from edgeward.targets.load import load as load_profile
from edgeward.targets.probe import probe

WARMUP, ROUNDS = 5, 60


def ratios(bundles: list[Bundle]) -> list[float]:
    """Return each bundle's time over the first one's for a golden case of middle size."""
    proof = proof_for(bundles[0].manifest.task)
    requests = [
        proof.request(load(bundle, threads=1), proof.read_cases(bundle.path)) for bundle in bundles
    ]
    rounds: list[list[float]] = []
    for number in range(WARMUP + ROUNDS):
        times = [0.0] * len(requests)
        for place in range(len(requests)):
            which = (place + number) % len(requests)
            began = time.perf_counter()
            requests[which]()
            times[which] = time.perf_counter() - began
        if number >= WARMUP:
            rounds.append(times)
    return [statistics.median(row[n] / row[0] for row in rounds) for n in range(len(requests))]


def main() -> None:
    """Compile, time and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--target", default="x86-64-cpu")
    given = parser.parse_args()
    machine = probe()
    print(f"{machine.cpu_model}, {machine.cores} cores, {platform.machine()}; "
          f"onnxruntime {onnxruntime.__version__}, 1 thread")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        request = CompileRequest(
            model=given.model,
            targets=(given.target,),
            output=Path(folder),
            precisions=load_profile(given.target).formats["onnx"],
            accept_degraded=True,
        )
        bundles = [one.bundle for one in compile_model(request)]
        for bundle, ratio in zip(bundles, ratios(bundles), strict=True):
            manifest = bundle.manifest
            figures = manifest.proof.figures
            mean, worst = figures["eval_cosine_mean"], figures["cosine_min"]
            size = f"{manifest.size / 2**20:6.1f} MiB"
            cosine = f"cosine {mean:.6f} mean, {worst:.4f} worst"
            print(f"{manifest.recipe.precision:13} {size}   {cosine}   time {ratio:.2f}")


if __name__ == "__main__":
    main()
