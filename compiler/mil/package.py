"""Reads a saved `.mlpackage`: its specification, its weights, its inputs and outputs."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeward.errors import EngineError

from .registry import OPERATORS

# What a protobuf's data type of arrays is in MIL's words.
_TYPES = {65552: "fp16", 65568: "fp32", 65600: "fp64", 131104: "int32", 131080: "int8"}
# What the loader makes of operators before they are evaluated.
_LOADED = ("const", "write_state")


@dataclass(frozen=True, slots=True)
class Port:
    """An input, an output or a state; the shape's free sizes are names.

    `shapes` are all the shapes that an input may have where they are enumerated, its own first;
    `ranges` the least and largest size of each axis (-1: no limit) where they are ranges.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    shapes: tuple[tuple[int, ...], ...] = ()
    ranges: tuple[tuple[int, int], ...] = ()


def read_package(path: Path) -> tuple[Any, Any]:
    """Return a package's specification and its program as coremltools holds it.

    Raises EngineError for a package that is damaged, that is no program, or that holds an operator
    which the evaluator lacks.
    """
    spec, weights = _read_spec(path)
    unknown = sorted(_operators(spec) - set(OPERATORS) - set(_LOADED))
    if unknown:
        raise EngineError(
            f"The evaluator lacks operators of {path.name}: {', '.join(unknown)}",
            why="a package is only said to be verified where every operator of it was run",
            next="add its row to compiler/mil/registry.py",
        )
    with quiet():
        from coremltools.converters.mil.frontend.milproto.load import load

        try:
            return spec, load(spec, spec.specificationVersion, str(weights))
        except (
            ValueError,
            TypeError,
            KeyError,
            IndexError,
            AttributeError,
            AssertionError,
            NotImplementedError,
            RuntimeError,
            OSError,
        ) as error:
            raise EngineError(f"{path} cannot be loaded", why=_short(error)) from error


def _read_spec(path: Path) -> tuple[Any, Path]:
    try:
        listed = json.loads((path / "Manifest.json").read_text("utf-8"))
        root = listed["itemInfoEntries"][listed["rootModelIdentifier"]]["path"]
        file = path / "Data" / root
        if not file.resolve().is_relative_to(path.resolve()):
            raise EngineError(f"{path} is damaged", why="its manifest names a file outside of it")
        data = file.read_bytes()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineError(f"{path} is no Core ML package", why=_short(error)) from error
    with quiet():
        try:
            from coremltools.proto import Model_pb2
            from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
        except ImportError as error:
            raise EngineError(
                "Core ML packages are read with coremltools",
                why=str(error),
                next="pip install coremltools",
            ) from None
        spec = Model_pb2.Model()
        try:
            spec.ParseFromString(data)
        except DecodeError as error:
            raise EngineError(f"{file} is damaged", why=_short(error)) from error
    if spec.WhichOneof("Type") != "mlProgram":
        raise EngineError(f"{path} is no ML program", why=f"its type is {spec.WhichOneof('Type')}")
    return spec, file.parent / "weights"


def _operators(spec: Any) -> set[str]:
    return {
        one.type
        for function in spec.mlProgram.functions.values()
        for block in function.block_specializations.values()
        for one in _nested(block.operations)
    }


def _nested(operations: Iterable[Any]) -> Iterator[Any]:
    for one in operations:
        yield one
        for block in one.blocks:
            yield from _nested(block.operations)


def described(spec: Any, function: str) -> Any:
    """Return the description of a function: what flexible shapes its inputs may have."""
    for one in spec.description.functions:
        if one.name == function:
            return one
    return spec.description


def ports(features: Sequence[Any]) -> dict[str, Port]:
    """Return the ports of a description's features by their names."""
    return {one.name: _port(one) for one in features}


def _port(feature: Any) -> Port:
    kind = feature.type.WhichOneof("Type")
    if kind == "stateType":
        return _array(feature.name, feature.type.stateType.arrayType)
    if kind == "multiArrayType":
        return _array(feature.name, feature.type.multiArrayType)
    return Port(feature.name, (), {"stringType": "str", "int64Type": "int64"}.get(kind, "fp32"))


def _array(name: str, array: Any) -> Port:
    shape = tuple(int(one) for one in array.shape)
    dtype = _TYPES.get(array.dataType, "fp32")
    flexible = array.WhichOneof("ShapeFlexibility")
    if flexible == "enumeratedShapes":
        rest = [tuple(int(one) for one in each.shape) for each in array.enumeratedShapes.shapes]
        shapes = (shape, *(one for one in rest if one != shape))
        return Port(name, shape, dtype, shapes=shapes)
    if flexible == "shapeRange":
        limits = array.shapeRange.sizeRanges
        ranges = tuple((int(one.lowerBound), int(one.upperBound)) for one in limits)
        return Port(name, shape, dtype, ranges=ranges)
    return Port(name, shape, dtype)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep coremltools from telling, on every import, what of it needs a Mac."""
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500]
