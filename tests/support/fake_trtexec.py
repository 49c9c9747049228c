"""A simulated trtexec: takes the true command line and nothing else, leaves a plan file.

Its options are those of `trtexec --help` (TensorRT 10.3 to 10.5). FAKE_TRTEXEC says how it
behaves: fail, hang, abort, kill, leak, full, empty, old; FAKE_TRTEXEC_LOG gets a line a build.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path

from simulated_plan import Profile, make_plan

FLAGS = {"--stronglyTyped", "--skipInference", "--fp16", "--int8", "--noTF32", "--verbose"}
VALUES = {"--onnx", "--saveEngine", "--timingCacheFile", "--memPoolSize", "--device"}
SHAPES = ("--minShapes", "--optShapes", "--maxShapes")
SPEC = re.compile(r"([^:,]+):([0-9]+(?:x[0-9]+)*|scalar)")
POOL = re.compile(r"workspace:[0-9]+(?:\.[0-9]+)?[BKMG]?")


def banner(word: str) -> None:
    version = "v8602" if behaviour() == "old" else os.environ.get("FAKE_TRTEXEC_VERSION", "v100300")
    print(f"&&&& {word} TensorRT.trtexec [TensorRT {version}] # {' '.join(sys.argv)}", flush=True)


def behaviour() -> str:
    return os.environ.get("FAKE_TRTEXEC", "")


def refuse(why: str) -> None:
    sys.stderr.write(f"[11/24/2026-21:00:00] [E] {why}\n")
    banner("FAILED")
    sys.exit(1)


def parsed(arguments: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name in options:
            refuse(f"{name} is given twice")
        if not (name in FLAGS and not equals) and not (name in {*VALUES, *SHAPES} and value):
            refuse(f"Unknown option: {argument}")
        options[name] = value
    if "--memPoolSize" in options and not POOL.fullmatch(options["--memPoolSize"]):
        refuse(f"Unknown memory pool {options['--memPoolSize']}")
    return options


def shapes_in(text: str) -> dict[str, list[int]]:
    shapes = {}
    for part in text.split(","):
        found = SPEC.fullmatch(part)
        if found is None:
            refuse(f"Invalid shape spec {part}")
        assert found is not None
        shapes[found[1]] = [] if found[2] == "scalar" else list(map(int, found[2].split("x")))
    return shapes


def profile_of(graph: bytes, options: dict[str, str]) -> Profile:
    import onnx

    given = [shapes_in(options[name]) if name in options else {} for name in SHAPES]
    inputs = {
        i.name: [d.dim_value or -1 for d in i.type.tensor_type.shape.dim]
        for i in onnx.load_from_string(graph).graph.input
    }
    for name in {name for shapes in given for name in shapes} - set(inputs):
        refuse(f"Cannot find input tensor with name {name} in the network inputs")
    profile: Profile = {}
    for name, dims in inputs.items():
        ends = [shapes.get(name) for shapes in given]
        if -1 not in dims:
            profile[name] = [dims, dims, dims]
            continue
        if None in ends:
            refuse(f"Dynamic dimensions required for input: {name}, but no shapes were provided")
        for low, usual, high, dim in zip(*ends, dims, strict=True):  # type: ignore[arg-type]
            if not low <= usual <= high or (dim != -1 and {low, usual, high} != {dim}):
                refuse(f"the profile of {name} does not fit")
        profile[name] = [end for end in ends if end is not None]
    return profile


def misbehave(plan: Path) -> None:
    how = behaviour()
    if how in ("hang", "full", "abort", "kill"):
        plan.write_bytes(b"half a plan")
    if how == "fail":
        refuse("[optimizer.cpp::computeCosts::4048] Error Code 10: Internal Error")
    if how == "full":
        refuse("Saving engine to file failed: No space left on device")
    if how == "hang":
        time.sleep(600)
    if how == "abort":
        os.abort()
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "leak":
        hoard = []
        while True:
            hoard.append(bytearray(b"x" * 2**24))
            time.sleep(0.005)
    if how == "empty":
        banner("PASSED")
        sys.exit(0)


def main() -> None:
    banner("RUNNING")
    if sys.argv[1:] == ["--help"]:
        print("=== Model Options ===\n  --onnx=<file>               ONNX model")
        return
    options = parsed(sys.argv[1:])
    if "--stronglyTyped" in options and {"--fp16", "--int8"} & set(options):
        refuse("strongly typed networks take no precision flags")
    if log := os.environ.get("FAKE_TRTEXEC_LOG"):
        with Path(log).open("a") as file:
            file.write(" ".join(sys.argv[1:]) + "\n")
    plan = Path(options["--saveEngine"])
    misbehave(plan)
    graph = Path(options["--onnx"]).read_bytes()
    profile = profile_of(graph, options)
    cache = Path(options["--timingCacheFile"])
    cache.write_bytes((cache.read_bytes() if cache.exists() else b"") + b"tactics\n")
    plan.write_bytes(make_plan("10.3.0", profile, graph))
    banner("PASSED")


if __name__ == "__main__":
    main()
