"""What is known to keep a program off the Neural Engine, told from the saved package."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WIDEST, MOST_AXES = 16_384, 5
_FLOAT32 = 11
_SOURCES = {
    "float32": "Apple, coremltools guide, Typed Execution: the Neural Engine computes in float16",
    "wide": "apple/ml-ane-transformers and others: no axis above 16,384",
    "axes": "coremltools guide, MIL input types: tensors have at most 5 axes",
    "dynamic": "Apple, coremltools guide, Flexible Input Shapes: enumerated shapes are planned "
    "ahead, ranges may not be",
    "gather": "Apple, Deploying Transformers on the Apple Neural Engine: look-ups may stay on the "
    "CPU",
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
