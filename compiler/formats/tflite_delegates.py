"""Which operators of a TFLite graph a delegate leaves to the plain kernels.

XNNPACK is asked: the runtime that converts has it. Of the others their sources and makers tell the
operators; what they say of shapes and types beside that only a device shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeward.runtimes.engines.litert_file import FileGraph, TFLiteFile

XNNPACK = "XNNPACK"
_DELEGATE = "DELEGATE"


@dataclass(frozen=True, slots=True)
class Delegate:
    """The operators that a delegate takes, and who says so; `integers` where it takes no floats."""

    name: str
    source: str
    operators: frozenset[str]
    integers: bool = False


def _named(text: str) -> frozenset[str]:
    return frozenset(text.split())


DELEGATES = (
    Delegate(
        "GPU",
        "tensorflow/lite/delegates/gpu/common/model_builder.cc, NewOperationParser",
        _named(
            """
            ABS ADD AVERAGE_POOL_2D CONCATENATION CONV_2D COS DEPTHWISE_CONV_2D DEQUANTIZE DIV
            FULLY_CONNECTED HARD_SWISH LEAKY_RELU LOG LOGISTIC LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM
            MIRROR_PAD MUL PAD POW PRELU QUANTIZE RELU RELU6 RESHAPE RESIZE_BILINEAR
            RESIZE_NEAREST_NEIGHBOR RSQRT SIN SLICE SOFTMAX SPACE_TO_DEPTH SQRT SQUARE
            SQUARED_DIFFERENCE STRIDED_SLICE SUB TANH TRANSPOSE TRANSPOSE_CONV
            """
        ),
    ),
    Delegate(
        "NNAPI",
        "tensorflow/lite/delegates/nnapi/nnapi_delegate.cc, Validate (Android 15 ends NNAPI)",
        _named(
            """
            ABS ADD ARG_MAX ARG_MIN AVERAGE_POOL_2D BATCH_TO_SPACE_ND BIDIRECTIONAL_SEQUENCE_LSTM
            CAST CONCATENATION CONV_2D DENSIFY DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV ELU
            EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FILL FLOOR FULLY_CONNECTED GATHER GREATER
            GREATER_EQUAL HARD_SWISH HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS
            LESS_EQUAL LOCAL_RESPONSE_NORMALIZATION LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC
            LOG_SOFTMAX LSH_PROJECTION LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL NEG NOT_EQUAL PACK
            PAD PADV2 POW PRELU QUANTIZE REDUCE_ANY REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU RELU6
            RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RNN RSQRT SELECT SIN SLICE
            SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SQRT SQUEEZE STRIDED_SLICE SUB SUM SVDF
            TANH TILE TOPK_V2 TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM
            UNIDIRECTIONAL_SEQUENCE_RNN
            """
        ),
    ),
    Delegate(
        "Edge TPU",
        "coral.ai/docs/edgetpu/models-intro, supported operations",
        _named(
            """
            ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED
            L2_NORMALIZATION LOGISTIC LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PACK PAD PRELU
            QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR
            RESIZE_NEAREST_NEIGHBOR RSQRT SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQUEEZE STRIDED_SLICE
            SUB SUM SQUARED_DIFFERENCE TANH TRANSPOSE TRANSPOSE_CONV
            """
        ),
        integers=True,
    ),
)


def left_out(path: Path, told: TFLiteFile) -> dict[str, Counter[str]]:
    """Return what each delegate leaves of the first signature; one that takes no floats lacks."""
    graph = told.graphs[told.signatures[0].graph]
    found = {XNNPACK: left_by_xnnpack(path, graph)}
    for delegate in DELEGATES:
        if delegate.integers and not is_integer(told):
            continue
        names = (one.name for one in graph.operators)
        found[delegate.name] = Counter(name for name in names if name not in delegate.operators)
    return found


def left_by_xnnpack(path: Path, graph: FileGraph) -> Counter[str]:
    """Ask the runtime which operators of the first signature stay outside of its delegate."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    parts = [one for one in interpreter._get_ops_details() if one["op_name"] == _DELEGATE]
    inside: set[int] = set()
    for part in parts:
        inside |= absorbed(graph, set(map(int, part["inputs"])), map(int, part["outputs"]))
    return Counter(one.name for n, one in enumerate(graph.operators) if n not in inside)


def absorbed(graph: FileGraph, given: set[int], outputs: Iterable[int]) -> set[int]:
    """Return the operators, by number, between a part's inputs and its outputs."""
    makers = {index: n for n, one in enumerate(graph.operators) for index in one.outputs}
    found: set[int] = set()
    waiting = list(outputs)
    while waiting:
        maker = makers.get(waiting.pop())
        if maker is None or maker in found:
            continue
        found.add(maker)
        waiting += [i for i in graph.operators[maker].inputs if i not in given]
    return found


def is_integer(told: TFLiteFile) -> bool:
    """Whether the first signature takes and gives integers for numbers: nothing in it is float."""
    first = told.signatures[0]
    tensors = told.graphs[first.graph].tensors
    ends = (*first.inputs.values(), *first.outputs.values())
    return all(tensors[index].dtype in ("int8", "uint8") for index in ends)


def words(left: Mapping[str, Counter[str]]) -> str:
    """Say what each leaves."""
    told = []
    for name, counted in left.items():
        listed = ", ".join(f"{operator} {count}" for operator, count in sorted(counted.items()))
        told.append(f"{name} leaves {listed or 'nothing'}")
    return "; ".join(told)
