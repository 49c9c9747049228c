"""What is known to keep a program off the Neural Engine, told from the saved package."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WIDEST, MOST_AXES = 16_384, 5
_FLOAT32 = 11
_SOURCES = {
    "float32": "what is typed float32 runs on the GPU and the CPU: "
    "https://apple.github.io/coremltools/docs-guides/source/typed-execution-example.html",
    "wide": "no axis of a weight above about 16,384, as measured by others: "
    "https://github.com/0seba/coremlmodels/blob/main/docs/AGENTS.md",
    "axes": "Core ML takes tensors of at most 5 axes: https://github.com/apple/coremltools, "
    "converters/mil/mil/tests/test_programs.py; 4, channels first, fit the Neural Engine best: "
    "https://machinelearning.apple.com/research/neural-engine-transformers",
    "dynamic": "of a range of shapes only the default one runs there: "
    "https://developer.apple.com/forums/thread/724930; enumerated ones are planned ahead: "
    "https://apple.github.io/coremltools/docs-guides/source/flexible-inputs.html",
    "gather": "gathers are known to run elsewhere, other look-ups are like them: "
    "https://github.com/hollance/neural-engine/blob/master/docs/unsupported-layers.md",
}
_ON_CPU = (
    "gather",
    "gather_along_axis",
    "gather_nd",
    "scatter",
    "scatter_along_axis",
    "scatter_nd",
    "topk",
    "non_zero",
    "argsort",
    "cumsum",
    "while_loop",
    "cond",
)


@dataclass(frozen=True, slots=True)
class Advice:
    """One reason why operators may leave the Neural Engine: which, how many, and who says so."""

    kind: str
    what: str
    count: int
    source: str

    @property
    def words(self) -> str:
        """It as a line."""
        return f"{self.what} ({self.count}): {self.source}"


def advice_of(package: Path) -> list[Advice]:
    """Return what may leave the Neural Engine; empty where nothing is known to."""
    from coremltools.proto import Model_pb2

    from edgeward.compiler.mil.package import quiet

    with quiet():
        spec = Model_pb2.Model()
        spec.ParseFromString((package / "Data/com.apple.CoreML/model.mlmodel").read_bytes())
    found: dict[tuple[str, str], int] = {}
    for operation in _operations(spec):
        for key in _reasons(operation):
            found[key] = found.get(key, 0) + 1
    return [
        Advice(kind, what, count, _SOURCES[kind]) for (kind, what), count in sorted(found.items())
    ]


def _operations(spec: Any) -> Iterator[Any]:
    for function in spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            yield from block.operations


def _reasons(operation: Any) -> Iterator[tuple[str, str]]:
    if operation.type == "const" or operation.type.startswith("constexpr_"):
        return
    if operation.type in _ON_CPU:
        yield "gather", f"{operation.type} may run on the CPU"
    for output in operation.outputs:
        tensor = output.type.tensorType
        sizes = [axis.constant.size for axis in tensor.dimensions if axis.HasField("constant")]
        if tensor.dataType == _FLOAT32 and sizes:
            yield "float32", f"{operation.type} computes in float32"
        if any(size > WIDEST for size in sizes):
            yield "wide", f"{operation.type} has an axis above {WIDEST:,}"
        if len(tensor.dimensions) > MOST_AXES:
            yield "axes", f"{operation.type} has more than {MOST_AXES} axes"
        if len(sizes) < len(tensor.dimensions):
            yield "dynamic", f"{operation.type} has an axis that is not fixed"
