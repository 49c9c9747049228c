"""Passes over ONNX files: each reads one, writes another, and says what it did."""
