"""The bare exporter and quantiser, as one would write them by hand; run by overhead.py.

usage: TOOLCHAIN_PYTHON bare_onnx.py MODEL_FOLDER OUTPUT_FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx_ir
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from transformers import AutoModel, AutoTokenizer
from transformers.exporters import OnnxConfig, OnnxExporter

source, out = Path(sys.argv[1]), Path(sys.argv[2])
model = AutoModel.from_pretrained(source, dtype=torch.float32).eval()
tokenizer = AutoTokenizer.from_pretrained(source)
sample = dict(tokenizer(["A short text.", "A longer one."], padding=True, return_tensors="pt"))
program = OnnxExporter().export(model, sample, OnnxConfig(dynamic=True)).program
onnx_ir.save(program, out / "model.onnx")
quantize_dynamic(
    out / "model.onnx", out / "int8.onnx", per_channel=True, weight_type=QuantType.QInt8
)
