"""The least that a profile says, as a user would write one."""

from __future__ import annotations

MINIMAL = """\
title = "A board"

[hardware]
arch = "aarch64"
cores = 4
memory = "4 GiB"
usable_memory = "3 GiB"
memory_bandwidth = "12 GB/s"

[hardware.units.cpu]
kind = "cpu"

[hardware.units.cpu.rates]
fp32 = "10 Gop/s"

[[engines]]
name = "onnxruntime"
version = ">=1.23"
providers = ["CPUExecutionProvider"]

[formats]
onnx = ["fp32", "int8-dynamic"]

[default]
format = "onnx"
precision = "fp32"

[sources]
hardware = "the vendor's data sheet"
"""
