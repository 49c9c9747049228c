"""Write the graphs that `edgeward targets calibrate` times ONNX Runtime's kernels with.

usage: python benchmarks/plan/calibration_graphs.py [--out FOLDER]

Weights are operators that make a constant, which ONNX Runtime folds and packs as it does weights of
a file: so a graph of 96 MiB of weights is a file of some kilobytes. Each differs from the
others, else they would be folded into one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from edgeward.targets.calibration_onnxruntime import (
    ATTENTION,
    BLOCK,
    GRAPHS,
    HELD_LAYERS,
    LAYERS,
    WIDTH,
    Heads,
)

OPSETS = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
IR_VERSION = 10
MICROSOFT = "com.microsoft"


def main() -> None:
    """Write the files where the package has them, or to a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=GRAPHS)
    asked = parser.parse_args()
    for name, content in graphs().items():
        (asked.out / f"{name}.onnx").write_bytes(content)


def graphs() -> dict[str, bytes]:
    """Return each file's content by its name."""
    made = {name: products(name, layers) for name, layers in LAYERS.items()}
    made |= {f"{name}-held": products(name, layers) for name, layers in HELD_LAYERS.items()}
    made["attention"] = attention(ATTENTION)
    return {name: model.SerializeToString(deterministic=True) for name, model in made.items()}


def products(precision: str, layers: int) -> onnx.ModelProto:
    """Return square products, one behind the other, of weights of a precision."""
    nodes: list[NodeProto] = []
    for layer in range(layers):
        nodes += _product(precision, layer)
    shape = ["rows", WIDTH]
    return _model(
        nodes,
        [helper.make_tensor_value_info("rows_0", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"rows_{layers}", TensorProto.FLOAT, shape)],
    )


def _product(precision: str, layer: int) -> list[NodeProto]:
    read, written = f"rows_{layer}", f"rows_{layer + 1}"
    weight, scale = f"weight_{layer}", f"scale_{layer}"
    small = np.float32(1e-3 + layer * 1e-5)
    if precision == "fp32":
        made = _filled(weight, [WIDTH, WIDTH], small)
        return [*made, helper.make_node("MatMul", [read, weight], [written])]
    if precision == "int8-dynamic":
        # Numbers beyond 64, as weights have them: others are never made wider for exact sums.
        made = _filled(weight, [WIDTH, WIDTH], np.int8(100 + layer))
        made += _filled(scale, [WIDTH], small)
        inputs = [read, weight, scale]
        node = helper.make_node("DynamicQuantizeMatMul", inputs, [written], domain=MICROSOFT)
        return [*made, node]
    bits = {"int8-weights": 8, "int4-weights": 4}[precision]
    made = _filled(weight, [WIDTH, WIDTH // BLOCK, BLOCK * bits // 8], np.uint8(100 + layer))
    made += _filled(scale, [WIDTH, WIDTH // BLOCK], small)
    sizes = {"K": WIDTH, "N": WIDTH, "bits": bits, "block_size": BLOCK, "accuracy_level": 4}
    inputs = [read, weight, scale]
    return [*made, helper.make_node("MatMulNBits", inputs, [written], domain=MICROSOFT, **sizes)]


def _filled(name: str, shape: list[int], value: np.generic) -> list[NodeProto]:
    """The operators that make a constant tensor of one value."""
    sizes = numpy_helper.from_array(np.array(shape, np.int64))
    content = numpy_helper.from_array(np.array([value]))
    return [
        helper.make_node("Constant", [], [f"{name}_shape"], value=sizes),
        helper.make_node("ConstantOfShape", [f"{name}_shape"], [name], value=content),
    ]


def attention(layers: tuple[Heads, ...]) -> onnx.ModelProto:
    """Return attention of one token over each layer's own cache."""
    inputs = [
        helper.make_tensor_value_info("rows", TensorProto.FLOAT, [1, 1, layers[0].width]),
        helper.make_tensor_value_info("before", TensorProto.INT32, [1]),
        helper.make_tensor_value_info("total", TensorProto.INT32, []),
    ]
    nodes, outputs = [], []
    for number, heads in enumerate(layers):
        past, present = (
            [f"{each}_{number}" for each in "kv"],
            [f"new_{each}_{number}" for each in "kv"],
        )
        inputs += [_cache(name, heads) for name in past]
        outputs += [_cache(name, heads) for name in present]
        seen = helper.make_tensor_value_info(
            f"seen_{number}", TensorProto.FLOAT, [1, 1, heads.query * heads.size]
        )
        outputs.append(seen)
        nodes.append(
            helper.make_node(
                "GroupQueryAttention",
                ["rows", "", "", *past, "before", "total"],
                [seen.name, *present],
                domain=MICROSOFT,
                num_heads=heads.query,
                kv_num_heads=heads.cached,
            )
        )
    return _model(nodes, inputs, outputs)


def _cache(name: str, heads: Heads) -> ValueInfoProto:
    shape = [1, heads.cached, "room", heads.size]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _model(
    nodes: list[NodeProto], inputs: list[ValueInfoProto], outputs: list[ValueInfoProto]
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "calibration", inputs, outputs)
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=IR_VERSION)


if __name__ == "__main__":
    main()
