"""`python -m edgeward.runtimes.finalize.python_build ORDER`: one build by TensorRT's Python API.

TensorRT may abort the process it runs in: this one is made for that. `--version` prints
TensorRT's version. Exit codes: 0 built, 1 refused, with the reason on stderr.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REFUSED = 1
MAX_ERRORS = 8


def main(arguments: list[str]) -> int:
    """Build the only argument's order."""
    trt = importlib.import_module("tensorrt")
    if arguments == ["--version"]:
        print(trt.__version__)  # noqa: T201
        return 0
    why = build(trt, json.loads(arguments[0]))
    if why:
        sys.stderr.write(f"error: {why}\n")
        return REFUSED
    return 0


def build(trt: Any, order: Mapping[str, Any]) -> str:
    """Parse, build, write the plan and the timing cache; return what went wrong, or nothing.

    The network is strongly typed: every tensor has the type that the graph gives it.
    """
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    flag = trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    network = builder.create_network(1 << int(flag))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(order["onnx"]):
        return f"the graph cannot be parsed: {_parser_errors(parser)}"
    config = builder.create_builder_config()
    if order["workspace_mib"] is not None:
        pool = trt.MemoryPoolType.WORKSPACE
        config.set_memory_pool_limit(pool, int(order["workspace_mib"]) << 20)
    problem = _add_profile(builder, network, config, order["shapes"])
    if problem:
        return problem
    cache = Path(order["timing_cache"])
    held = cache.read_bytes() if cache.is_file() else b""
    timing = config.create_timing_cache(held) or config.create_timing_cache(b"")
    config.set_timing_cache(timing, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        return "TensorRT built no engine; its own words stand above"
    Path(order["plan"]).write_bytes(memoryview(plan))
    cache.write_bytes(memoryview(timing.serialize()))
    return ""


def _add_profile(
    builder: Any, network: Any, config: Any, shapes: Mapping[str, list[list[int]]]
) -> str:
    """One profile over every dynamic input; none where all shapes are static."""
    profile, is_dynamic = builder.create_optimization_profile(), False
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if tensor.name not in shapes:
            return f"the graph has an input that the manifest does not name: {tensor.name}"
        if -1 in tuple(tensor.shape):
            least, usual, most = map(tuple, shapes[tensor.name])
            profile.set_shape(tensor.name, least, usual, most)
            is_dynamic = True
    if is_dynamic and config.add_optimization_profile(profile) < 0:
        return "TensorRT refused the ranges of the dynamic axes"
    return ""


def _parser_errors(parser: Any) -> str:
    count = min(int(parser.num_errors), MAX_ERRORS)
    return "; ".join(str(parser.get_error(index)) for index in range(count)) or "it says nothing"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
